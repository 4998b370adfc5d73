/**
 * What shrinking the Hessians of experts gives: the table on experts of `docs/models.md`. The embedded model is made into
 * mixtures, a row for each amount of calibration text and each seed, and quantized with the share that the formula finds, with
 * fixed ones, and without the damping of refinement that few tokens ask for.
 *
 *     npm run bench:experts -- [--markdown docs/models.md] [--sequences 4,16] [--seeds 0] [--windows 30]
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  cutWindows,
  type OpenModel,
  openModel,
  type QuantizedLayer,
  readTokens,
  scoreModels,
  startEngine,
  withQuantizedLayers,
} from 'gptvq/model'
import { type StageRunner, stepHere } from '../../src/pipeline/calibrate/stage-runner.js'
import { mixHessians, sumExpert } from '../../src/pipeline/calibrate/statistics/expert-statistics.js'
import { sharedBy } from '../../src/pipeline/calibrate/statistics/stage-sums.js'
import {
  type LayerResult,
  type LayerWatch,
  type LayerWork,
  quantizeHere,
} from '../../src/pipeline/quantize/layers/layer-work.js'
import { quantizePhases } from '../../src/pipeline/quantize/phases.js'
import { prepareRun } from '../../src/pipeline/quantize/prepare-run.js'
import { mixtureModel } from '../common/mixture-model.js'
import { modelFolder } from '../common/real-layers.js'
import { tableOfCells, writeSection } from '../common/report.js'

const CALIBRATION_LENGTH = 128
const CONTEXT = 256

/** How experts are quantized in a column of the table. */
interface Variant {
  /** Of the pool in an expert's Hessian; default: what the formula finds. */
  readonly share?: number
  /** Whether refinement takes experts for layers that saw all tokens they need. */
  readonly isUndamped?: true
}

const variants: Readonly<Record<string, Variant>> = {
  'Ledoit and Wolf’s': {},
  'the same, refined undamped': { isUndamped: true },
  'own tokens only, 0': { share: 0 },
  '0.25': { share: 0.25 },
  'all tokens, 1': { share: 1 },
}

const { values } = parseArgs({
  options: {
    markdown: { type: 'string' },
    sequences: { type: 'string', default: '4,16' },
    seeds: { type: 'string', default: '0' },
    windows: { type: 'string', default: '30' },
  },
})
const numbersOf = (list: string) => list.split(',').map(Number)

await startEngine('wasm')
const folder = await mkdtemp(join(tmpdir(), 'gptvq-experts-'))
const lines: string[][] = []
try {
  for (const seed of numbersOf(values.seeds)) {
    const mixture = await mixtureModel(seed, folder)
    for (const sequences of numbersOf(values.sequences)) {
      const cells = [
        `${sequences} x ${CALIBRATION_LENGTH}`,
        `${seed}`,
        ...(await measure(mixture, sequences)),
      ]
      console.error(cells.join(' | '))
      lines.push(cells)
    }
  }
} finally {
  await rm(folder, { recursive: true, force: true })
}
const heads = ['calibration tokens', 'seed of the mixture', ...Object.keys(variants)]
const section = tableOfCells(heads, lines, 1)
if (values.markdown === undefined) console.log(section)
else await writeSection(values.markdown, 'experts', section)
process.exit(0)

/** The KL divergences from the mixture in full precision, by the variant. */
async function measure(model: string, sequences: number): Promise<string[]> {
  const full = await openModel(model)
  try {
    const candidates = []
    for (const variant of Object.values(variants)) {
      const layers = await quantizedLayers(model, sequences, variant)
      candidates.push({ source: withQuantizedLayers(full.source, layers), config: full.config })
    }
    const scored = await scoreModels({ reference: full, candidates, windows: await heldOut(model, full) })
    return scored.candidates.map(({ klDivergence }) => klDivergence!.toFixed(4))
  } finally {
    await full.close()
  }
}

async function heldOut(model: string, { config }: OpenModel) {
  const text = await readTokens(join(modelFolder, 'texts/evaluation.txt'), model, config)
  return cutWindows(text, CONTEXT, Number(values.windows))
}

async function quantizedLayers(model: string, sequences: number, { share, isUndamped }: Variant) {
  const layers = new Map<string, QuantizedLayer>()
  const options = {
    model,
    calibration: join(modelFolder, 'texts/calibration.txt'),
    sequences,
    sequenceLength: CALIBRATION_LENGTH,
  }
  const prepared = await prepareRun(options)
  try {
    const here = { output: undefined, journal: undefined, onProgress: undefined, signal: undefined }
    const onLayer = (name: string, layer: QuantizedLayer) => void layers.set(name, layer)
    const runStage = share === undefined ? stepHere : stepWith(share)
    const runLayer = isUndamped ? quantizeUndamped : quantizeHere
    const run = { ...prepared, ...here, model, onLayer, runStage, runLayer, elapsed: () => 0 }
    await quantizePhases(run, options)
  } finally {
    await prepared.checkpoint.close()
  }
  return layers
}

/** Quantizes an expert's layer as if enough tokens had been routed to it. */
function quantizeUndamped({ inputs, ...work }: LayerWork, watch: LayerWatch): Promise<LayerResult> {
  if (inputs?.pooled === undefined) return quantizeHere({ ...work, inputs }, watch)
  return quantizeHere({ ...work, inputs: { ...inputs, tokens: Number.MAX_SAFE_INTEGER } }, watch)
}

/** A step as the product takes it, but for the share of the pool in Hessians of experts; without own tokens it is 1. */
function stepWith(share: number): StageRunner {
  return async (step) => {
    const { collecting, block, stream } = step
    if (collecting?.expert === undefined) return stepHere(step)
    await stepHere({ ...step, collecting: undefined })
    const { own, pool } = await sumExpert(collecting, { block, stream })
    const hessian = own ? mixHessians(own.hessian(), pool.hessian(), share) : pool.hessian()
    return sharedBy(collecting.linears, { hessian, tokens: own?.tokens ?? 0, pooled: own ? share : 1 })
  }
}
