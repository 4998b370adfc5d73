import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createCheckpointWriter } from 'gptvq/model'
import { encodeFloats } from '../../src/checkpoint/dtype.js'
import {
  type ModuleRecord,
  QUANT_METHOD,
  versionOf,
} from '../../src/checkpoint/quantized/quantized-config.js'
import { recordOf, storedTensors } from '../../src/checkpoint/quantized/quantized-tensors.js'
import type { PackedQuantizedLayer } from '../../src/packing/quantized-layer.js'
import { normals } from './random-layers.js'
import {
  blockLinears,
  blockNorms,
  configOf,
  type MakeLayer,
  type ModelSizes,
  randomWeights,
} from './random-model.js'
import { modelFolder } from './real-layers.js'

/** A folder of random weights: embedding, norms and, unless `make` is there for it, the head in bf16. */
export interface RandomFolder {
  readonly sizes: ModelSizes
  readonly make: NonNullable<MakeLayer>
  /** The head is the embedding (false), or a layer of this form. */
  readonly head: NonNullable<MakeLayer> | false
}

/**
 * Writes a quantized folder of random weights.
 *
 * @returns its bytes
 */
export async function writeRandomFolder(
  folder: string,
  { sizes, make, head }: RandomFolder,
): Promise<number> {
  const writer = await createCheckpointWriter(folder)
  const modules = new Map<string, ModuleRecord>()
  const { shape: shapeOf } = randomWeights(sizes, undefined)
  const few = encodeFloats('BF16', normals(2 ** 16, 5))
  const addPlain = async (name: string) => {
    const shape = shapeOf(name)!
    const bytes = new Uint8Array(2 * shape.reduce((a, b) => a * b))
    for (let at = 0; at < bytes.length; at += few.length) bytes.set(few.subarray(0, bytes.length - at), at)
    await writer.add(name, 'BF16', shape, bytes)
  }
  const addLayer = async (module: string, layer: PackedQuantizedLayer) => {
    modules.set(module, recordOf(layer, 'BF16', null))
    for (const { name, dtype, shape, bytes } of storedTensors(module, layer)) {
      await writer.add(name, dtype, shape, bytes)
    }
  }
  const layers = new Map<string, PackedQuantizedLayer>()
  const layerOf = ([rows, cols]: readonly number[]) => {
    const layer = layers.get(`${rows} ${cols}`) ?? make(rows, cols)
    layers.set(`${rows} ${cols}`, layer)
    return layer
  }
  try {
    await addPlain('model.embed_tokens.weight')
    await addPlain('model.norm.weight')
    if (head) await addLayer('lm_head', head(sizes.words, sizes.hidden))
    for (let block = 0; block < sizes.blocks; block++) {
      const prefix = `model.layers.${block}`
      for (const norm of blockNorms) await addPlain(`${prefix}.${norm}.weight`)
      for (const linear of blockLinears) {
        await addLayer(`${prefix}.${linear}`, layerOf(shapeOf(`${prefix}.${linear}.weight`)!))
      }
    }
    const quantization = {
      quant_method: QUANT_METHOD,
      version: versionOf(modules.values()),
      method: 'gptvq',
      settings: {},
      modules: Object.fromEntries(modules),
    }
    const config = { ...configOf(sizes), tie_word_embeddings: head === false, torch_dtype: 'bfloat16' }
    await writer.addFile('config.json', JSON.stringify({ ...config, quantization_config: quantization }))
    await writer.addFile('tokenizer.json', await tokenizerOf(sizes.words))
    return (await writer.finish()).bytes
  } finally {
    await writer.discard()
  }
}

/** The tokenizer of the embedded model with further words, which no text has. */
async function tokenizerOf(words: number): Promise<string> {
  const tokenizer = JSON.parse(await readFile(join(modelFolder, 'tokenizer.json'), 'utf8'))
  const { vocab } = tokenizer.model
  for (let id = Object.keys(vocab).length; id < words; id++) vocab[`Ġword${id}`] = id
  return JSON.stringify(tokenizer)
}
