import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseQuantizationConfig, type VqRecord } from '../../src/checkpoint/quantized/quantized-config.js'
import {
  readQuantizedLayer,
  recordOf,
  type StoredTensor,
  storedNames,
  storedTensors,
} from '../../src/checkpoint/quantized/quantized-tensors.js'
import type { TensorSource } from '../../src/checkpoint/tensor-source.js'
import { CheckpointError } from '../../src/common/errors.js'
import { packLayer } from '../../src/packing/pack-layer.js'
import { dequantize } from '../../src/packing/quantized-layer.js'
import { dequantizeLayer } from '../../src/packing/vq-layer.js'
import { layers, randomLayer, randomPermutation } from '../packing/layers.js'
import { thrownBy } from '../support/tolerance.js'
import { errorOf } from './fixtures.js'

const module = 'block.q'
const layout = { rows: 4, cols: 20, vectorDim: 2, bits: 2, columnsPerGroup: 8, rowsPerGroup: 2 }
const reordered = { ...randomLayer(layout, 8, 1), permutation: randomPermutation(20, 2) }

/** A file that holds these tensors and nothing else. */
function sourceOf(stored: readonly StoredTensor[]): TensorSource {
  const byName = new Map(stored.map((tensor) => [tensor.name, tensor]))
  const unused = () => Promise.reject(new Error('layers are read as bytes'))
  return {
    tensors: new Map(
      stored.map(({ name, dtype, shape, bytes }) => [
        name,
        { name, dtype, shape, bytes: bytes.length, file: 'model.safetensors' },
      ]),
    ),
    readBytes: async (name) => byName.get(name)!.bytes,
    readFloats: unused,
    readRows: unused,
    close: async () => {},
  }
}

/** A record as config.json gives it back. */
function readRecord(record: unknown): VqRecord {
  const quantization = { quant_method: 'gptvq', version: 2, method: 'gptvq', modules: { [module]: record } }
  const config = JSON.parse(JSON.stringify({ quantization_config: quantization }))
  return parseQuantizationConfig(config, 'config.json')?.modules[module] as VqRecord
}

describe('a stored layer whose columns were reordered', () => {
  it('is read back bit for bit, with any layout and with scales too', async () => {
    await fc.assert(
      fc.asyncProperty(layers, fc.nat(1e6), async (plain, seed) => {
        const layer = { ...plain, permutation: randomPermutation(plain.layout.cols, seed) }
        const packed = packLayer(layer)
        const stored = storedTensors(module, packed)
        const record = readRecord(recordOf(packed, 'F32', null))
        expect(storedNames(module, record)).toEqual(stored.map(({ name }) => name))
        const read = await readQuantizedLayer(sourceOf(stored), module, record)
        expect(read).toEqual(layer)
        expect(dequantize(read).data).toEqual(dequantizeLayer(layer).data)
      }),
    )
  })

  it('differs from the same layer without by one tensor and one field', () => {
    const { permutation: _, ...plain } = reordered
    const [packed, packedPlain] = [packLayer(reordered), packLayer(plain)]
    expect(storedTensors(module, packed).slice(0, -1)).toEqual(storedTensors(module, packedPlain))
    expect(storedTensors(module, packed).at(-1)).toMatchObject({
      name: 'block.q.vq_permutation',
      dtype: 'U8',
      // 20 columns of 5 bits
      shape: [13],
    })
    const record = recordOf(packedPlain, 'F32', null)
    expect(recordOf(packed, 'F32', null)).toEqual({ ...record, permuted: true })
    expect(Object.keys(record)).not.toContain('permuted')
  })

  it.each<[string, (tensors: StoredTensor[]) => StoredTensor[], RegExp]>([
    [
      'a column that stands there twice',
      ([...rest]) => {
        const bytes = rest.at(-1)!.bytes.slice()
        bytes[0] = (bytes[0] & ~31) | (((bytes[1] & 3) << 3) | (bytes[0] >> 5))
        return [...rest.slice(0, -1), { ...rest.at(-1)!, bytes }]
      },
      /block\.q\.vq_permutation: permutation: position 1 holds column \d+, which stands there already/,
    ],
    [
      'a column that does not exist',
      ([...rest]) => {
        const bytes = rest.at(-1)!.bytes.slice()
        bytes[0] |= 31
        return [...rest.slice(0, -1), { ...rest.at(-1)!, bytes }]
      },
      /block\.q\.vq_permutation: permutation: position 0 holds column 31, the layer has 20 columns/,
    ],
    [
      'too few bytes',
      ([...rest]) => [...rest.slice(0, -1), { ...rest.at(-1)!, shape: [12] }],
      /block\.q\.vq_permutation is U8 12, expected U8 13/,
    ],
    ['no such tensor', (tensors) => tensors.slice(0, -1), /no tensor .*block\.q\.vq_permutation/],
  ])('is refused with %s', async (_, damage, message) => {
    const packed = packLayer(reordered)
    const source = sourceOf(damage(storedTensors(module, packed)))
    const error = await errorOf(readQuantizedLayer(source, module, readRecord(recordOf(packed, 'F32', null))))
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.message).toMatch(message)
  })

  it('is refused where config.json says neither true nor false', () => {
    const record = { ...recordOf(packLayer(reordered), 'F32', null), permuted: 1 }
    const error = thrownBy(() => readRecord(record))
    expect(error).toBeInstanceOf(CheckpointError)
    expect((error as Error).message).toMatch(/block\.q: permuted is 1, expected true or false/)
  })
})
