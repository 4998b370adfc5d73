import { join } from 'node:path'
import { createCheckpointWriter, openCheckpoint } from 'gptvq/model'
import { decodeFloats } from '../../src/checkpoint/dtype.js'
import { encodeBfloats } from '../../src/kernels/half.js'
import { modelFolder } from './real-layers.js'

const SCALED_ROW = 5

/** The embedded model with massive activations. */
export interface MassiveModel {
  readonly factor: number
  /** The block whose `gate_proj` and `up_proj` have a row scaled; without one it is the embedding that changes. */
  readonly block?: number
}

/** Writes the embedded model with its weights scaled into a folder. @returns where it is */
export async function scaledModel({ block, factor }: MassiveModel, folder: string): Promise<string> {
  const output = join(folder, `${block ?? 'embedding'}-${factor}`)
  const checkpoint = await openCheckpoint(modelFolder)
  const writer = await createCheckpointWriter(output, { force: true })
  const rowScaled = ['gate_proj', 'up_proj'].map((kind) => `model.layers.${block}.mlp.${kind}.weight`)
  for (const { name, dtype, shape } of checkpoint.tensors.values()) {
    const bytes = await checkpoint.readBytes(name)
    const values = decodeFloats(dtype, bytes)
    const cols = shape.at(-1)!
    for (let i = 0; i < values.length; i++) {
      const row = rowScaled.includes(name) && Math.floor(i / cols) === SCALED_ROW
      const channel = block === undefined && name === 'model.embed_tokens.weight' && i % cols === SCALED_ROW
      if (row || channel) values[i] *= factor
    }
    const halves = new Uint16Array(values.length)
    encodeBfloats(values, halves)
    await writer.add(name, 'BF16', shape, new Uint8Array(halves.buffer))
  }
  await writer.addFile('config.json', JSON.stringify(checkpoint.config))
  for (const file of ['tokenizer.json', 'tokenizer_config.json']) {
    await writer.copyFile(join(modelFolder, file))
  }
  await writer.finish()
  await checkpoint.close()
  return output
}
