import { matrix } from '../../common/matrix.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import {
  batchInMemory,
  batchSizes,
  type CalibrationStream,
  type PlaceBatch,
  type TokenBatch,
} from '../calibrate/calibration-stream.js'
import type { WriteFile } from './journal.js'
import { readParts, writeValues } from './saved-values.js'

/** Writes the residual stream of tokens between two blocks, batch by batch. */
export function writeStream({ batches }: CalibrationStream): WriteFile {
  return writeValues(
    (async function* () {
      for (const batch of batches) yield (await batch.read(['residual'])).residual!.data
    })(),
  )
}

/** Reads what {@link writeStream} wrote. @throws CheckpointError when the file is of another size */
export async function readStream(
  folder: string,
  name: string,
  { hiddenSize }: DecoderDescription,
  sequences: number,
  length: number,
  place: PlaceBatch = (_, count, state) => batchInMemory(count, state),
): Promise<CalibrationStream> {
  const batches: TokenBatch[] = []
  const sizes = batchSizes(sequences, length)
  const parts = sizes.map((count) => count * length * hiddenSize)
  await readParts(folder, name, parts, async (data, index) => {
    const residual = matrix(sizes[index] * length, hiddenSize, data)
    batches.push(await place(index, sizes[index], { residual }))
  })
  return { length, batches }
}
