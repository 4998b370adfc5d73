import { matrix } from '../../common/matrix.js'
import { disposeBlock, openBlock } from '../../model/decoder/block.js'
import type { Stage } from '../../model/decoder/block-state.js'
import type { BlockDescription } from '../../model/decoder/description.js'
import { type LinearLayer, linearLayers } from '../../model/decoder/linears.js'
import { blockStages } from '../../model/decoder/stages.js'
import { readRows } from '../../model/decoder/weights.js'
import { type CalibrationStream, tokensOf } from '../calibrate/calibration-stream.js'
import type { StageStatistics } from '../calibrate/statistics/stage-sums.js'
import type { PreparedRun } from '../quantize/prepare-run.js'
import { stopwatch } from '../stopwatch.js'
import { type LayerSeconds, measureLayer } from './measure-layer.js'
import type { Extent } from './measure-rows.js'
import { type CalibrationPlan, measureCollecting, measurePassing } from './measure-stage.js'

/** Seconds that a block takes. */
export interface BlockSeconds {
  /** Reading its weights, running tokens through it, and summing up Hessians and drift. */
  readonly calibration: number
  readonly quantization: number
  /** Running the tokens through it once. */
  readonly pass: number
}

/** Stages alike take as long: experts of one shape, and those behind them. */
function likeness({ linears, uses, expert }: Stage): string {
  const shapes = (layers: Stage['linears']) => layers.map(({ rows, cols }) => `${rows}x${cols}`).join()
  return `${expert === undefined ? '' : 'expert '}${shapes(linears)} of ${shapes(uses)}`
}

/**
 * Takes a few tokens through a block and quantizes a part of its layers, each kind of stage once.
 *
 * @param stream tokens in front of the block
 * @param most of a layer
 */
export async function measureBlock(
  { weights, config, settings, plan }: PreparedRun,
  index: number,
  stream: CalibrationStream | undefined,
  whole: CalibrationPlan,
  most: Extent,
): Promise<BlockSeconds> {
  const { driftCorrection: share, tokenWeights } = settings.order
  const clock = stopwatch()
  const description: BlockDescription = config.blocks[index]
  const block = stream && (await openBlock(weights, description))
  let calibration = stream ? clock() : 0
  let quantization = 0
  const linears = new Map(linearLayers(config, index).map((linear) => [linear.kind, linear]))
  let pass = 0
  const measured = new Map<string, BlockSeconds>()
  const scale = stream ? whole.tokens / tokensOf(stream) : 0
  try {
    for (const stage of blockStages(description)) {
      let seconds = measured.get(likeness(stage))
      if (seconds === undefined) {
        const wanted = stage.linears.filter(({ module }) => plan.settingsOf(`${module}.weight`))
        let inputs: StageStatistics | undefined
        let [passing, once] = [0, 0]
        if (stream && block) {
          const measuring = { block, stage, stream, plan: whole }
          if (wanted.length > 0) {
            const collected = await measureCollecting(measuring, { isDrifting: share > 0, tokenWeights })
            inputs = collected.inputs
            passing += collected.seconds
          }
          once = await measurePassing(measuring, inputs ? tokensSeen(inputs) / tokensOf(stream) : 1)
          passing += whole.passes * once
        }
        const layers = wanted.map(({ kind }) => linears.get(kind)!)
        seconds = {
          ...{ calibration: passing, pass: once },
          quantization: await layersSeconds(layers, inputs),
        }
        measured.set(likeness(stage), seconds)
      }
      calibration += seconds.calibration
      quantization += seconds.quantization
      pass += seconds.pass
    }
    return { calibration, quantization, pass }
  } finally {
    if (block) disposeBlock(block)
  }

  /** The first layer of each shape stands for all of it; the factors of a Hessian are made once. */
  async function layersSeconds(
    layers: readonly LinearLayer[],
    statistics: StageStatistics | undefined,
  ): Promise<number> {
    const known = new Map<string, LayerSeconds>()
    let sum = 0
    const hessians = new Set<unknown>()
    for (const linear of layers) {
      const { kind, name, rows, cols } = linear
      const inputs = statistics?.get(kind)
      const settings = plan.settingsOf(name)!
      const key = JSON.stringify([rows, cols, settings.stated])
      let seconds = known.get(key)
      if (seconds === undefined) {
        const weight = matrix(rows, cols, await readRows(weights, name, 0, rows))
        const tokens = inputs ? Math.round(inputs.tokens * scale) : 0
        seconds = await measureLayer({ linear, weight, inputs, settings, share, tokens, most })
        known.set(key, seconds)
      }
      sum += seconds.own + (hessians.has(inputs) ? 0 : seconds.factors)
      hessians.add(inputs)
    }
    return sum
  }
}

/** Of the stage's layers, which all see the same. */
function tokensSeen(inputs: StageStatistics): number {
  const [{ tokens }] = inputs.values()
  return tokens
}
