/** One layer in a process of its own, so that its memory can be told from all else: `layer-run.ts TASK-AS-JSON`. */
import {
  dequantizeLayer,
  type LayerTask,
  packLayer,
  quantizeLayer,
  reconstructionError,
  type VqOptions,
} from 'gptvq'
import type { LayerPhase } from '../../src/gptvq/phase-clock.js'
import { wholeBlock } from '../../src/kernels/contract.js'
import { kernels, setThreads } from '../../src/kernels/kernels.js'
import { secondsOf } from '../common/harness.js'
import { correlatedHessian, heavyTailedWeight } from '../common/synthetic.js'

/** The steps of a layer that are timed apart. */
export type Phase = LayerPhase | 'pack'

export interface LayerRun {
  /** Outputs; 0 for a process that does nothing, whose memory is what every process has. */
  readonly rows: number
  /** Inputs. */
  readonly cols: number
  /** Rows and columns of the layer that is quantized first, untimed. */
  readonly warmUp: number
  readonly threads: number
  readonly repeats: number
  readonly options: VqOptions
}

export interface LayerFigures {
  /** Of each run, quantizing and packing. */
  readonly seconds: readonly number[]
  /** The same, of all threads together: what else the machine does is not counted. */
  readonly processorSeconds: readonly number[]
  /** Of each run; phases that did not occur are missing. */
  readonly phases: readonly Partial<Record<Phase, number>>[]
  /** Relative error of the layer, the same in each run; null where none was quantized. */
  readonly error: number | null
  /** Of each run of the product `W H` on the same threads. */
  readonly productSeconds: readonly number[]
  /** Largest resident set until the first run was over. */
  readonly peakBytes: number
}

const task = JSON.parse(process.argv[2]) as LayerRun
setThreads(task.threads)
process.send!(await figuresOf(task), () => process.disconnect())

async function figuresOf(run: LayerRun): Promise<LayerFigures> {
  await quantize({ ...run, rows: run.warmUp, cols: run.warmUp })
  const results = []
  let peakBytes = peak()
  if (run.rows > 0) {
    for (let i = 0; i < run.repeats; i++) {
      results.push(await quantize(run))
      if (i === 0) peakBytes = peak()
    }
  }
  return {
    seconds: results.map(({ seconds }) => seconds),
    processorSeconds: results.map(({ processorSeconds }) => processorSeconds),
    phases: results.map(({ phases }) => phases),
    error: results.length > 0 ? results[0].errorOf() : null,
    productSeconds: run.rows > 0 ? await productSeconds(run) : [],
    peakBytes,
  }
}

/** Bytes of the largest resident set so far. */
function peak(): number {
  return 1024 * process.resourceUsage().maxRSS
}

async function quantize({ rows, cols, options }: LayerRun) {
  const [weight, hessian] = [heavyTailedWeight(rows, cols, 1), correlatedHessian(cols, 1)]
  const phases: Partial<Record<Phase, number>> = {}
  const timed: VqOptions & LayerTask = {
    ...options,
    onPhase(phase, seconds) {
      phases[phase] = (phases[phase] ?? 0) + seconds
    },
  }
  const start = performance.now()
  const cpu = process.cpuUsage()
  const layer = await quantizeLayer(weight, hessian, timed)
  phases.pack = await secondsOf(() => packLayer(layer))
  const seconds = (performance.now() - start) / 1000
  const { user, system } = process.cpuUsage(cpu)
  const errorOf = () => reconstructionError(weight, dequantizeLayer(layer), hessian).relative
  return { seconds, processorSeconds: (user + system) / 1e6, phases, errorOf }
}

/** `W H`: as many operations as everything else of a layer is measured by. */
async function productSeconds({ rows, cols }: LayerRun): Promise<number[]> {
  const [a, b] = [heavyTailedWeight(rows, cols, 1).data, correlatedHessian(cols, 1).data]
  const product = wholeBlock(new Float32Array(rows * cols), cols)
  const samples: number[] = []
  for (let i = 0; i < 4; i++) {
    samples.push(
      await secondsOf(() =>
        kernels().gemm('AB', rows, cols, cols, 1, wholeBlock(a, cols), wholeBlock(b, cols), 0, product),
      ),
    )
  }
  return samples.slice(1)
}
