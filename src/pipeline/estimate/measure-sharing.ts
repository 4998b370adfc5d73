import { pacer } from '../../event-loop.js'
import { matrix } from '../../matrix.js'
import { randomGenerator } from '../../random.js'
import type { Calibration } from '../calibrate/calibration.js'
import { planBudget } from '../mixed/plan.js'
import { measureSensitivity } from '../mixed/sensitivity.js'
import { chosenSequences } from '../mixed/share-budget.js'
import { tryCandidates } from '../mixed/trials.js'
import type { PreparedRun } from '../quantize/prepare-run.js'
import { stopwatch } from '../stopwatch.js'

/** Sequences that are run for measurement. */
const MEASURED_SEQUENCES = 8
/** Rows of a layer that are quantized for trial. */
const MOST_ROWS = 256

/** Seconds that measuring the sensitivity of all layers takes: one block stands for all, few sequences for all. */
export async function measureSharing(
  { weights, config, plan, settings }: PreparedRun,
  { sequences }: Calibration,
  bpv: number,
): Promise<number> {
  if (settings.method !== 'gptvq') return 0
  const { options } = settings
  const chosen = chosenSequences(sequences, config)
  const few = chosen.slice(0, MEASURED_SEQUENCES)
  const planned = new Map(
    planBudget(plan.linears, options, bpv).layers.map(({ linear, candidates }) => [linear.name, candidates]),
  )
  let trials = 0
  const run = async (blocks: typeof config.blocks) => {
    const lap = stopwatch()
    let tried = 0
    await measureSensitivity({
      model: { source: weights, config: { ...config, blocks } },
      sequences: few,
      isTried: (name) => planned.has(name),
      random: randomGenerator(1),
      pause: pacer(undefined),
      onProgress: () => {},
      async tryLayer({ name }, weight, hessian, factors) {
        const rows = Math.min(weight.rows, MOST_ROWS)
        const part = matrix(rows, weight.cols, weight.data.subarray(0, rows * weight.cols))
        const trial = stopwatch()
        const all = await tryCandidates(
          part,
          hessian,
          planned.get(name)!,
          { ...options, bpv },
          { name, factors },
        )
        const seconds = trial()
        tried += seconds
        trials += (seconds * weight.rows) / rows
        const change = all.trials.map(({ error, change }) => {
          const whole = new Float32Array(weight.rows * weight.cols)
          whole.set(change)
          return { error, change: whole }
        })
        return { errors: all.errors, trials: change }
      },
    })
    return lap() - tried
  }
  const ends = await run([])
  const withOne = await run(config.blocks.slice(0, 1))
  const scale = chosen.length / few.length
  return scale * ends + config.blocks.length * (trials + scale * Math.max(0, withOne - ends))
}
