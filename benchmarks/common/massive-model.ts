import { join } from 'node:path'
import { type FloatTensor, writeChangedModel } from './changed-model.js'

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
  const rowScaled = ['gate_proj', 'up_proj'].map((kind) => `model.layers.${block}.mlp.${kind}.weight`)
  const scaled = (tensor: FloatTensor) => {
    const { name, shape, values } = tensor
    const cols = shape.at(-1)!
    for (let i = 0; i < values.length; i++) {
      const row = rowScaled.includes(name) && Math.floor(i / cols) === SCALED_ROW
      const channel = block === undefined && name === 'model.embed_tokens.weight' && i % cols === SCALED_ROW
      if (row || channel) values[i] *= factor
    }
    return [tensor]
  }
  await writeChangedModel(output, { tensors: scaled })
  return output
}
