import { matrix } from '../../common/matrix.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { openEmbedding } from '../../model/decoder/embedding.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import type { Calibration } from './calibration.js'
import {
  batchSizes,
  type CalibrationStream,
  inMemory,
  type PlaceBatch,
  type TokenBatch,
} from './calibration-stream.js'

/** The calibration tokens in front of the first block. @param place where they go; default: they stay in memory */
export async function embeddedStream(
  weights: WeightSource,
  config: DecoderDescription,
  { sequences, length }: Calibration,
  place: PlaceBatch = inMemory,
): Promise<CalibrationStream> {
  const embed = await openEmbedding(weights, config)
  const batches: TokenBatch[] = []
  let first = 0
  for (const [index, count] of batchSizes(sequences.length, length).entries()) {
    const tokens = new Int32Array(count * length)
    for (let i = 0; i < count; i++) tokens.set(sequences[first + i], i * length)
    const residual = matrix(tokens.length, config.hiddenSize, await embed(tokens))
    batches.push(await place(index, count, { residual }))
    first += count
  }
  return { length, batches }
}
