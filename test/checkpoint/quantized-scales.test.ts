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
import { dequantizeLayer, type VqLayer } from '../../src/packing/vq-layer.js'
import { layers, randomLayer } from '../packing/layers.js'
import { thrownBy } from '../support/tolerance.js'
import { errorOf } from './fixtures.js'

/** A checkpoint of the given tensors, in memory. */
function sourceOf(tensors: readonly StoredTensor[]): TensorSource {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]))
  const notCalled = async () => {
    throw new Error('not called')
  }
  return {
    tensors: new Map(
      tensors.map(({ name, dtype, shape, bytes }) => [
        name,
        { name, dtype, shape, bytes: bytes.length, file: 'model.safetensors' },
      ]),
    ),
    readBytes: async (name) => byName.get(name)?.bytes ?? new Uint8Array(0),
    readFloats: notCalled,
    readRows: notCalled,
    close: async () => {},
  }
}

/** The record as a reader of `config.json` gets it. */
function recordThroughJson(layer: VqLayer): VqRecord {
  const record = recordOf(packLayer(layer), 'F32', null)
  const quantization = { quant_method: 'gptvq', version: 2, method: 'gptvq', modules: { a: record } }
  const config = JSON.parse(JSON.stringify({ quantization_config: quantization }))
  const parsed = parseQuantizationConfig(config, 'config.json')?.modules.a
  if (parsed?.format !== 'vq') throw new Error('expected a vq record')
  return parsed
}

const layout = {
  rows: 3,
  cols: 80,
  vectorDim: 2,
  bits: 2,
  columnsPerGroup: 64,
  rowsPerGroup: 2,
  scaleBlockSize: 16,
}

describe('block scales in a checkpoint', () => {
  it('give back the same weights bit for bit, for layouts of any raggedness', async () => {
    await fc.assert(
      fc.asyncProperty(layers, async (layer) => {
        const tensors = storedTensors('a', packLayer(layer))
        const record = recordThroughJson(layer)
        expect(storedNames('a', record)).toEqual(tensors.map(({ name }) => name))
        const read = dequantize(await readQuantizedLayer(sourceOf(tensors), 'a', record))
        const expected = dequantizeLayer(layer)
        expect(Buffer.compare(Buffer.from(read.data.buffer), Buffer.from(expected.data.buffer))).toBe(0)
      }),
      { numRuns: 200 },
    )
  })

  it('are two tensors more, of the shapes that the format says, and a field of the record', () => {
    const plain = randomLayer({ ...layout, scaleBlockSize: undefined }, 8, 1)
    const scaled = randomLayer(layout, 8, 1)
    const described = ({ name, dtype, shape }: StoredTensor) => `${name} ${dtype} ${shape.join('x')}`
    const common = ['a.vq_indices U8 3x20', 'a.vq_codebooks I8 2x2x16x2', 'a.vq_codebook_scales BF16 2x2']
    expect(storedTensors('a', packLayer(plain)).map(described)).toEqual(common)
    expect(storedTensors('a', packLayer(scaled)).map(described)).toEqual([
      ...common,
      'a.vq_scales U8 3x3',
      'a.vq_scale_ratio F32 1',
    ])
    expect(Object.keys(recordOf(packLayer(plain), 'F32', null))).not.toContain('scale_block_size')
    expect(recordOf(packLayer(scaled), 'F32', null)).toMatchObject({ scale_block_size: 16 })
  })

  const tensors = storedTensors('a', packLayer(randomLayer(layout, 8, 1)))
  const record = recordThroughJson(randomLayer(layout, 8, 1))
  const replaced = (name: string, change: Partial<StoredTensor>) =>
    tensors.map((tensor) => (tensor.name === name ? { ...tensor, ...change } : tensor))
  const ratio = (value: number) => new Uint8Array(Float32Array.of(value).buffer)

  it.each<[string, readonly StoredTensor[], RegExp]>([
    ['missing codes', tensors.filter(({ name }) => name !== 'a.vq_scales'), /has no tensor "a\.vq_scales"/],
    ['a missing ratio', tensors.slice(0, -1), /has no tensor "a\.vq_scale_ratio"/],
    [
      'codes of fewer blocks',
      replaced('a.vq_scales', { shape: [3, 2], bytes: new Uint8Array(6) }),
      /model\.safetensors: a\.vq_scales is U8 3 x 2, expected U8 3 x 3\..*quantize the model again/,
    ],
    [
      'codes of fewer rows',
      replaced('a.vq_scales', { shape: [2, 3], bytes: new Uint8Array(6) }),
      /a\.vq_scales is U8 2 x 3, expected U8 3 x 3/,
    ],
    [
      'codes of another dtype',
      replaced('a.vq_scales', { dtype: 'I8' }),
      /a\.vq_scales is I8 3 x 3, expected U8 3 x 3/,
    ],
    [
      'two ratios',
      replaced('a.vq_scale_ratio', { shape: [2], bytes: new Uint8Array(8) }),
      /a\.vq_scale_ratio is F32 2, expected F32 1/,
    ],
    ...[0, 1, -0.5, Number.NaN, Number.POSITIVE_INFINITY].map((value): [string, StoredTensor[], RegExp] => [
      `a ratio of ${value}`,
      replaced('a.vq_scale_ratio', { bytes: ratio(value) }),
      new RegExp(`a\\.vq_scale_ratio: holds ${value}, expected a number between 0 and 1`),
    ]),
  ])('are refused with %s', async (_what, damaged, message) => {
    const error = await errorOf(readQuantizedLayer(sourceOf(damaged), 'a', record))
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.message).toMatch(message)
  })

  it.each([0, -16, 16.5, '16', Number.NaN])('are refused with a scale_block_size of %s', (size) => {
    const modules = { a: { ...record, scale_block_size: size } }
    const config = { quantization_config: { quant_method: 'gptvq', version: 1, method: 'gptvq', modules } }
    const error = thrownBy(() => parseQuantizationConfig(config, 'config.json'))
    expect(error).toBeInstanceOf(CheckpointError)
    expect((error as Error).message).toMatch(
      /config\.json: a: scale_block_size is .*expected a whole number from 1/,
    )
  })
})
