import { createCheckpointWriter } from 'gptvq/model'
import { encodeFloats } from '../../src/checkpoint/dtype.js'
import { randomGenerator } from '../../src/common/random.js'
import { normals } from './random-layers.js'
import { blockLinears, blockNorms, configOf, type ModelSizes, randomWeights } from './random-model.js'

/** Writes a model of random weights in bfloat16 into a folder, without a tokenizer. */
export async function writeRandomModel(to: string, sizes: ModelSizes): Promise<void> {
  const writer = await createCheckpointWriter(to)
  try {
    const { shape } = randomWeights(sizes, undefined)
    const inBlock = [...blockLinears, ...blockNorms]
    const blocks = Array.from({ length: sizes.blocks }, (_, i) =>
      inBlock.map((part) => `model.layers.${i}.${part}`),
    )
    const modules = ['model.embed_tokens', 'lm_head', 'model.norm', ...blocks.flat()]
    for (const [seed, module] of modules.entries()) {
      const name = `${module}.weight`
      const size = shape(name)!
      const count = size.reduce((product, side) => product * side)
      const scale = 1 / Math.sqrt(size[1] ?? 1)
      const data =
        size.length === 1 ? new Float32Array(count).fill(1) : normals(count, seed).map((v) => v * scale)
      await writer.add(name, 'BF16', size, encodeFloats('BF16', data))
    }
    await writer.addFile('config.json', JSON.stringify(configOf(sizes)))
    await writer.finish()
  } finally {
    await writer.discard()
  }
}

/** Token ids out of nothing, for its calibration. */
export function randomSequences({ words }: ModelSizes, count: number, length: number): Int32Array[] {
  const random = randomGenerator(1)
  return Array.from({ length: count }, () => Int32Array.from({ length }, () => Math.floor(random() * words)))
}
