import { type Matrix, matrix } from '../../matrix.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { batchInMemory, batchSizes, type CalibrationStream } from '../calibrate/calibration-stream.js'
import type { WriteFile } from './journal.js'
import { readValues, writeValues } from './saved-values.js'

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
): Promise<CalibrationStream> {
  const sizes = batchSizes(sequences, length)
  const residuals = sizes.map((count): Matrix => matrix(count * length, hiddenSize))
  await readValues(
    folder,
    name,
    residuals.map(({ data }) => data),
  )
  return { length, batches: residuals.map((residual, i) => batchInMemory(sizes[i], { residual })) }
}
