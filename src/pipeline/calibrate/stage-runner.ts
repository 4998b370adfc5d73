import type { Block } from '../../model/decoder/block.js'
import type { Stage } from '../../model/decoder/block-state.js'
import type { QuantizedLayer } from '../../packing/quantized-layer.js'
import { type CalibrationStream, type OnBatch, passStageInBoth } from './calibration-stream.js'
import { collectExpertStatistics } from './statistics/expert-statistics.js'
import { collectStatistics } from './statistics/input-statistics.js'
import { type StageStatistics, sharedBy } from './statistics/stage-sums.js'
import type { TokenWeighting } from './statistics/token-weights.js'

/** A step of the calibration tokens through a block: past one stage, then a look at what the layers of another read. */
export interface StageStep {
  /** What the tokens pass. */
  readonly block: Block
  /** What of its weights is quantized, by the names of the weights. */
  readonly layers: ReadonlyMap<string, QuantizedLayer>
  readonly stream: CalibrationStream
  /** The same tokens in the full model, and what they pass there; undefined: nobody asks for the drift. */
  readonly full: { readonly block: Block; readonly stream: CalibrationStream } | undefined
  /** The stage that is passed first; undefined: the tokens are where they should be. */
  readonly passing: Stage | undefined
  /** The stage whose layers' inputs are summed; undefined: none. */
  readonly collecting: Stage | undefined
  readonly tokenWeights: TokenWeighting
  readonly onBatch?: OnBatch | undefined
  readonly signal: AbortSignal | undefined
}

/** Does a step, here or elsewhere. @returns what the layers read, where that was asked for */
export type StageRunner = (step: StageStep) => Promise<StageStatistics | undefined>

/** Does a step in this process. @throws NumericError naming the layers; AbortedError */
export const stepHere: StageRunner = async (step) => {
  const { block, stream, full, passing, collecting, tokenWeights, onBatch, signal } = step
  const present = { block, stream }
  if (passing) await passStageInBoth(passing, present, full, signal)
  if (collecting === undefined) return undefined
  const options = { signal, ...(onBatch && { onBatch }) }
  if (collecting.expert === undefined) {
    return collectStatistics(collecting, present, { full, tokenWeights, ...options })
  }
  const statistics = await collectExpertStatistics(collecting, present, options)
  return sharedBy(collecting.linears, statistics)
}
