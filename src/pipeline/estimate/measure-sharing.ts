import { pacer } from '../../event-loop.js'
import { matrix } from '../../matrix.js'
import { linearLayers } from '../../model/decoder/linears.js'
import type { Calibration } from '../calibrate/calibration.js'
import { planBudget } from '../mixed/plan.js'
import { measureSensitivity } from '../mixed/sensitivity.js'
import { choosePieces } from '../mixed/share-budget.js'
import { tryCandidates } from '../mixed/trials.js'
import type { PreparedRun } from '../quantize/prepare-run.js'
import { stopwatch } from '../stopwatch.js'

/** Rows of a layer that are quantized for trial. */
const MOST_ROWS = 256

/** Seconds that measuring the sensitivity of all layers takes: one block stands for all, and so does what lies behind it. */
export async function measureSharing(
  { weights, config, plan, settings }: PreparedRun,
  { sequences }: Calibration,
  bpv: number,
): Promise<number> {
  if (settings.method !== 'gptvq') return 0
  const { options } = settings
  const pieces = choosePieces(sequences)
  const planned = new Map(
    planBudget(plan.linears, options, bpv).layers.map(({ linear, candidates }) => [linear.name, candidates]),
  )
  const first = new Set(linearLayers(config, 0).map(({ name }) => name))
  let trials = 0
  const run = async (blocks: typeof config.blocks) => {
    const lap = stopwatch()
    let tried = 0
    await measureSensitivity({
      model: { source: weights, config: { ...config, blocks } },
      ...pieces,
      // a second block is there to be run through by what changes in the first
      isTried: (name) => planned.has(name) && first.has(name),
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
  const own = (await run(config.blocks.slice(0, 1))) - ends
  const ofTrials = trials
  const count = config.blocks.length
  if (count === 1) return ends + Math.max(0, own) + ofTrials
  const behind = (await run(config.blocks.slice(0, 2))) - ends - own
  return ends + count * (Math.max(0, own) + ofTrials) + (Math.max(0, behind) * count * (count - 1)) / 2
}
