import { NumericError } from '../../../common/errors.js'
import { type Matrix, matrix } from '../../../common/matrix.js'
import { HessianAccumulator } from '../../../hessian/hessian.js'
import { disposeBlock, openBlock, readNorm } from '../../../model/decoder/block.js'
import type { DecoderDescription } from '../../../model/decoder/description.js'
import { blockStages } from '../../../model/decoder/stages.js'
import type { WeightSource } from '../../../model/decoder/weights.js'
import { releaseWeights, runningOps } from '../../../model/ops/running.js'
import type { Calibration } from '../calibration.js'
import { forEachBatch, type PlaceBatch, passStage } from '../calibration-stream.js'
import { embeddedStream } from '../embedded-stream.js'
import type { InputStatistics } from './stage-sums.js'

/** What is run, and on what. */
export interface HeadPass {
  readonly weights: WeightSource
  readonly config: DecoderDescription
  readonly calibration: Calibration
  /** Where the tokens between two stages go; undefined: they stay in memory. */
  readonly place?: PlaceBatch | undefined
  readonly signal: AbortSignal | undefined
  onProgress(done: number): void
}

/**
 * What the output projection of a model sees on the calibration text: the hidden states behind the final norm.
 *
 * @returns their Hessian, hiddenSize x hiddenSize
 * @throws NumericError when an activation is NaN or infinite
 */
export async function collectHeadStatistics(pass: HeadPass): Promise<InputStatistics> {
  const { weights, config, calibration, place, signal, onProgress } = pass
  const stream = await embeddedStream(weights, config, calibration, place)
  for (const [index, description] of config.blocks.entries()) {
    const block = await openBlock(weights, description)
    try {
      const stages = blockStages(description)
      for (const [turn, stage] of stages.entries()) {
        onProgress((index + turn / stages.length) / config.blocks.length)
        await passStage(block, stage, stream, signal)
      }
    } finally {
      disposeBlock(block)
    }
  }
  const norm = await readNorm(weights, config.finalNorm)
  const hessian = new HessianAccumulator(config.hiddenSize)
  const see = ({ rows, cols, data }: Matrix) => {
    const ops = runningOps()
    ops.tidy(() => hessian.add(matrix(rows, cols, ops.read(ops.norm(ops.upload(data, rows, cols), norm)))))
  }
  try {
    await forEachBatch(stream, signal, ({ state }) => see(state.residual!))
  } catch (error) {
    if (!(error instanceof NumericError)) throw error
    throw new NumericError(`input of ${config.head.tensor}: ${error.message}`)
  } finally {
    releaseWeights(norm)
  }
  return { hessian: hessian.hessian(), tokens: hessian.tokens }
}
