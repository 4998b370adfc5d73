import { join } from 'node:path'
import { createCheckpointWriter, openCheckpoint } from 'gptvq/model'
import { decodeFloats } from '../../src/checkpoint/dtype.js'
import { encodeBfloats } from '../../src/kernels/half.js'
import { modelFolder } from './real-layers.js'

/** A tensor of a model, decoded. */
export interface FloatTensor {
  readonly name: string
  readonly shape: readonly number[]
  readonly values: Float32Array
}

/** What is written in the place of the embedded model's own. */
export interface Changes {
  /** The tensors in the place of one, which it may change. */
  tensors(tensor: FloatTensor): Iterable<FloatTensor>
  /** Its `config.json`; default: as it is. */
  config?(config: Readonly<Record<string, unknown>>): Record<string, unknown>
}

/** Writes the embedded model, changed, in bf16 into the folder `output`. */
export async function writeChangedModel(output: string, changes: Changes): Promise<void> {
  const checkpoint = await openCheckpoint(modelFolder)
  const writer = await createCheckpointWriter(output, { force: true })
  for (const { name, dtype, shape } of checkpoint.tensors.values()) {
    const values = decodeFloats(dtype, await checkpoint.readBytes(name))
    for (const tensor of changes.tensors({ name, shape, values })) {
      const halves = new Uint16Array(tensor.values.length)
      encodeBfloats(tensor.values, halves)
      await writer.add(tensor.name, 'BF16', tensor.shape, new Uint8Array(halves.buffer))
    }
  }
  const config = checkpoint.config as Record<string, unknown>
  await writer.addFile('config.json', JSON.stringify(changes.config?.(config) ?? config))
  for (const file of ['tokenizer.json', 'tokenizer_config.json']) {
    await writer.copyFile(join(modelFolder, file))
  }
  await writer.finish()
  await checkpoint.close()
}
