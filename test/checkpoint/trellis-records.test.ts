import { describe, expect, it } from 'vitest'
import { parseQuantizationConfig, type VqRecord } from '../../src/checkpoint/quantized/quantized-config.js'
import {
  readQuantizedLayer,
  recordOf,
  type StoredTensor,
  storedTensors,
} from '../../src/checkpoint/quantized/quantized-tensors.js'
import type { TensorSource } from '../../src/checkpoint/tensor-source.js'
import { CheckpointError } from '../../src/common/errors.js'
import { dequantizeLayer, packLayer, quantizeLayer } from '../../src/index.js'
import { dequantize } from '../../src/packing/quantized-layer.js'
import { gaussianMatrix, randomHessian } from '../support/random-matrix.js'
import { rejectionOf } from '../support/tolerance.js'

const module = 'block.q'
const layer = await quantizeLayer(gaussianMatrix(12, 21, 1), randomHessian(21, 100, 2), { trellisBits: 4 })
const packed = packLayer(layer)
const sound = recordOf(packed, 'F32', 0.1) as VqRecord
const widthsName = `${module}.vq_widths`

/** Reads a layer of this record and these tensors, as from a file that someone else has made. */
async function read(record: object, tensors: readonly StoredTensor[], version = 2) {
  const quantization = { quant_method: 'gptvq', version, method: 'gptvq', modules: { [module]: record } }
  const config = JSON.parse(JSON.stringify({ quantization_config: quantization }))
  const parsed = parseQuantizationConfig(config, 'config.json')!.modules[module]
  return readQuantizedLayer(sourceOf(tensors), module, parsed)
}

function sourceOf(stored: readonly StoredTensor[]): TensorSource {
  const byName = new Map(stored.map((tensor) => [tensor.name, tensor]))
  const unused = () => Promise.reject(new Error('layers are read as bytes'))
  const infoOf = ({ name, dtype, shape, bytes }: StoredTensor) =>
    [name, { name, dtype, shape, bytes: bytes.length, file: 'model.safetensors' }] as const
  return {
    tensors: new Map(stored.map(infoOf)),
    readBytes: async (name) => byName.get(name)!.bytes,
    readFloats: unused,
    readRows: unused,
    close: async () => {},
  }
}

/** The tensors of the layer, one of them with other bytes. */
const withBytes = (name: string, change: (bytes: Uint8Array) => Uint8Array) =>
  storedTensors(module, packed).map((tensor) => {
    if (tensor.name !== name) return tensor
    const bytes = change(tensor.bytes.slice())
    return {
      ...tensor,
      bytes,
      shape: [...tensor.shape.slice(0, -1), bytes.length / (tensor.shape.length > 1 ? tensor.shape[0] : 1)],
    }
  })

const { key_bits: _, ...withoutKeyBits } = sound
const { codebook: __, ...withoutCodebook } = sound

describe('the record of a layer with a trellis', () => {
  it('gives back the layer', async () => {
    const again = await read(sound, storedTensors(module, packed))
    expect(dequantize(again).data).toEqual(dequantizeLayer(layer).data)
  })

  it.each<[string, object, RegExp]>([
    ['keys of 13 bits', { ...sound, key_bits: 13 }, /key_bits is 13, expected a whole number from 1 to 12/],
    ['keys of 2.5 bits', { ...sound, key_bits: 2.5 }, /key_bits is 2\.5/],
    ['keys of no bits', { ...sound, key_bits: 0 }, /key_bits is 0/],
    ['keys of text', { ...sound, key_bits: '8' }, /key_bits is "8"/],
    ['keys shorter than indices', { ...sound, key_bits: 3 }, /vq_widths: indices of up to \d bits.* says 3/],
    ['no key bits', withoutKeyBits, /bits is [\d.]+, expected a whole number|vq_codebooks/],
    ['no name of a codebook', withoutCodebook, /codebook is .*, expected "gaussian-1"/],
    [
      'another codebook',
      { ...sound, codebook: 'gaussian-2' },
      /codebook is "gaussian-2", expected "gaussian-1"/,
    ],
    ['a codebook of 16 bits', { ...sound, codebook_bits: 16 }, /codebook_bits is 16, expected 8/],
    [
      'vectors of 3',
      { ...sound, vector_dim: 3, columns_per_group: 21 },
      /vector_dim is 3, expected 1, 2 or 4/,
    ],
    [
      'vectors of 8',
      { ...sound, vector_dim: 8, columns_per_group: 24 },
      /vector_dim is 8, expected 1, 2 or 4/,
    ],
    [
      'other bits than the mean of the widths',
      { ...sound, bits: sound.bits + 1e-6 },
      /on average; config\.json says/,
    ],
    ['bits below 0', { ...sound, bits: -1 }, /bits is -1, expected a number above 0/],
    ['more bits than a key', { ...sound, bits: 13 }, /bits is 13/],
    [
      'other vectors than the widths are of',
      { ...sound, vector_dim: 1 },
      /vq_widths is U8 6, expected U8 11/,
    ],
    [
      'a group of fewer rows',
      { ...sound, rows_per_group: 1 },
      /codebook scales: found 1 elements.* needs 12/,
    ],
  ])('is refused with %s, naming file and layer', async (_, record, message) => {
    const error = await rejectionOf(() => read(record, storedTensors(module, packed)))
    expect(error).toBeInstanceOf(CheckpointError)
    expect((error as Error).message).toMatch(/block\.q/)
    expect((error as Error).message).toMatch(message)
  })

  it('is refused in version 1 of the format, which has none', async () => {
    const error = await rejectionOf(() => read(sound, storedTensors(module, packed), 1))
    expect(error).toBeInstanceOf(CheckpointError)
    expect((error as Error).message).toMatch(/version is 1, expected 2, since block\.q has a trellis/)
  })

  it.each<[string, readonly StoredTensor[], RegExp]>([
    ['are missing', storedTensors(module, packed).filter(({ name }) => name !== widthsName), /vq_widths/],
    ['are too few', withBytes(widthsName, (bytes) => bytes.slice(1)), /vq_widths is U8 5, expected U8 6/],
    ['are wider than a key', withBytes(widthsName, (bytes) => bytes.fill(0xff)), /indices of up to 16 bits/],
    ['have another sum', withBytes(widthsName, (bytes) => bytes.fill(0)), /up to 1 bits, 0\.5 a weight/],
    [
      'do not fill the rows of indices',
      withBytes(`${module}.vq_indices`, (bytes) => bytes.slice(12)),
      /indices: found/,
    ],
  ])('is refused where the widths %s', async (_, tensors, message) => {
    const error = await rejectionOf(() => read(sound, tensors))
    expect(error).toBeInstanceOf(CheckpointError)
    expect((error as Error).message).toMatch(message)
  })
})
