import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { decodeBfloats } from '../../src/kernels/half.js'
import type { DecoderDescription } from '../../src/model/decoder/description.js'
import type { WeightSource } from '../../src/model/decoder/weights.js'
import { describeDecoder } from '../../src/model/families/index.js'

/** The folder of the embedded model. */
export const tinyLlamaFolder = fileURLToPath(new URL('../../examples/models/tiny-llama/', import.meta.url))

/** The embedded model through a reader that shares nothing with the library's own. */
export async function openTinyLlama(): Promise<{ source: WeightSource; config: DecoderDescription }> {
  const file = await readFile(`${tinyLlamaFolder}model.safetensors`)
  const headerLength = Number(file.readBigUInt64LE(0))
  const header: Record<string, { shape: number[]; data_offsets: [number, number] }> = JSON.parse(
    file.toString('utf8', 8, 8 + headerLength),
  )
  const data = file.buffer.slice(file.byteOffset + 8 + headerLength, file.byteOffset + file.length)
  const tensors = new Map<string, TestTensor>()
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue
    const [start, end] = entry.data_offsets
    const values = new Float32Array((end - start) / 2)
    decodeBfloats(new Uint16Array(data, start, values.length), values)
    tensors.set(name, { shape: entry.shape, values })
  }
  const config = JSON.parse(await readFile(`${tinyLlamaFolder}config.json`, 'utf8'))
  return { source: sourceOf(tensors), config: describeDecoder(config, 'config.json') }
}

export interface TestTensor {
  readonly shape: readonly number[]
  readonly values: Float32Array
}

/** A source over tensors in memory. */
export function sourceOf(tensors: ReadonlyMap<string, TestTensor>): WeightSource {
  const find = (name: string) => {
    const tensor = tensors.get(name)
    if (tensor === undefined) throw new Error(`the test has no tensor ${name}`)
    return tensor
  }
  return {
    shape: (name) => tensors.get(name)?.shape,
    floats: async (name) => find(name).values,
    rows: async (name, first, count) => {
      const { shape, values } = find(name)
      return values.slice(first * shape[1], (first + count) * shape[1])
    },
  }
}
