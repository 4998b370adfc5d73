// A reader of quantized folders that was written from docs/file-format.md alone; it imports nothing of the library.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

interface Tensor {
  readonly dtype: string
  readonly shape: readonly number[]
  readonly bytes: DataView
}

interface Layer {
  readonly format: 'vq' | 'scalar'
  readonly shape: readonly [number, number]
  readonly bits: number
  readonly vector_dim: number
  readonly columns_per_group: number
  readonly rows_per_group: number
  readonly codebook_bits: number
  readonly scale_block_size?: number
  readonly permuted?: boolean
  readonly key_bits?: number
  readonly codebook?: string
  readonly group_size: number
}

type Tensors = ReadonlyMap<string, Tensor>

/** The float32 weights of all quantized layers, by the name of the plain tensor. */
export function readQuantizedFolder(folder: string): Map<string, Float32Array> {
  const { quantization_config: quantization } = readJson(join(folder, 'config.json'))
  if (quantization.quant_method !== 'gptvq' || ![1, 2].includes(quantization.version))
    throw new Error('another format')
  const index = join(folder, 'model.safetensors.index.json')
  const files = existsSync(index)
    ? new Set<string>(Object.values(readJson(index).weight_map))
    : ['model.safetensors']
  const tensors = new Map([...files].flatMap((file) => readSafetensors(join(folder, file))))
  const modules: [string, Layer][] = Object.entries(quantization.modules)
  return new Map(
    modules.map(([name, layer]) => [
      `${name}.weight`,
      layer.format === 'vq' ? readVq(tensors, name, layer) : readScalar(tensors, name, layer),
    ]),
  )
}

function readJson(path: string) {
  return JSON.parse(readFileSync(path, 'utf8'))
}

function readSafetensors(path: string): [string, Tensor][] {
  const file = readFileSync(path)
  const length = Number(file.readBigUInt64LE(0))
  const header: Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }> =
    JSON.parse(file.toString('utf8', 8, 8 + length))
  return Object.entries(header).flatMap(([name, { dtype, shape, data_offsets }]) => {
    if (name === '__metadata__') return []
    const [begin, end] = data_offsets
    const bytes = new DataView(file.buffer, file.byteOffset + 8 + length + begin, end - begin)
    return [[name, { dtype, shape, bytes }]]
  })
}

/** A tensor's numbers. @param dtypes one of which it must have */
function numbers(tensors: Tensors, name: string, dtypes: string[], shape: number[]): number[] {
  const tensor = tensors.get(name)
  if (tensor === undefined) throw new Error(`no tensor ${name}`)
  const { dtype, bytes } = tensor
  if (!dtypes.includes(dtype) || String(tensor.shape) !== String(shape)) {
    throw new Error(`${name} is ${dtype} [${tensor.shape}], expected ${dtypes} [${shape}]`)
  }
  const count = shape.reduce((product, size) => product * size)
  return Array.from({ length: count }, (_, i) => {
    if (dtype === 'U8') return bytes.getUint8(i)
    if (dtype === 'I8') return bytes.getInt8(i)
    if (dtype === 'F16') return half(bytes.getUint16(2 * i, true))
    if (dtype === 'BF16') return upperHalf(bytes.getUint16(2 * i, true))
    return bytes.getFloat32(4 * i, true)
  })
}

/** An IEEE half: sign, 5 bits of exponent, 10 bits of fraction. */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 31
  const fraction = (bits & 1023) / 1024
  return exponent === 0 ? sign * fraction * 2 ** -14 : sign * (1 + fraction) * 2 ** (exponent - 15)
}

function upperHalf(bits: number): number {
  const view = new DataView(new ArrayBuffer(4))
  view.setUint32(0, bits * 65536)
  return view.getFloat32(0)
}

/** `count` numbers of `width` bits from byte `start` on, the least significant bit first. */
function unpack(bytes: number[], start: number, count: number, width: number): number[] {
  return unpackRagged(bytes, start, new Array<number>(count).fill(width))
}

/** The same, each number with a width of its own. */
function unpackRagged(bytes: number[], start: number, widths: readonly number[]): number[] {
  let bit = 0
  return widths.map((width) => {
    let value = 0
    for (let b = 0; b < width; b++, bit++) {
      if (bytes[start + Math.floor(bit / 8)] & (1 << (bit % 8))) value += 2 ** b
    }
    return value
  })
}

function readVq(tensors: Tensors, name: string, layer: Layer): Float32Array {
  const [rows, cols] = layer.shape
  const d = layer.vector_dim
  const isTrellis = layer.key_bits !== undefined
  const perRow = Math.ceil(cols / d)
  const widths = isTrellis
    ? unpack(numbers(tensors, `${name}.vq_widths`, ['U8'], [Math.ceil(perRow / 2)]), 0, perRow, 4).map(
        (w) => w + 1,
      )
    : new Array<number>(perRow).fill(layer.bits * d)
  const k = 2 ** (layer.key_bits ?? layer.bits * d)
  const rowBytes = Math.ceil(widths.reduce((sum, width) => sum + width, 0) / 8)
  const rowGroups = Math.ceil(rows / layer.rows_per_group)
  const colGroups = Math.ceil(cols / layer.columns_per_group)
  const indices = numbers(tensors, `${name}.vq_indices`, ['U8'], [rows, rowBytes])
  const elementType = layer.codebook_bits === 8 ? 'I8' : 'F16'
  const constant = isTrellis ? constantCodebook(layer) : undefined
  const codebooks = constant
    ? constant.elements
    : numbers(tensors, `${name}.vq_codebooks`, [elementType], [rowGroups, colGroups, k, d])
  const scales = numbers(tensors, `${name}.vq_codebook_scales`, ['BF16', 'F32'], [rowGroups, colGroups])
  const weights = new Float32Array(rows * cols)
  const keys: number[] = []
  for (let r = 0; r < rows; r++) {
    for (const [v, index] of unpackRagged(indices, r * rowBytes, widths).entries()) {
      const above = r % layer.rows_per_group === 0 ? 0 : keys[v]
      keys[v] = (index + 2 ** widths[v] * above) % k
      const factor = constant?.factors[widths[v] - 1] ?? 1
      const group =
        Math.floor(r / layer.rows_per_group) * colGroups + Math.floor((v * d) / layer.columns_per_group)
      const centroid = (isTrellis ? 0 : group * k) + keys[v]
      for (let a = 0; a < d && v * d + a < cols; a++) {
        weights[r * cols + v * d + a] = codebooks[centroid * d + a] * scales[group] * factor
      }
    }
  }
  if (layer.scale_block_size !== undefined) scaleBlocks(weights, tensors, name, layer, layer.scale_block_size)
  return layer.permuted ? inNaturalOrder(weights, tensors, name, layer) : weights
}

/** The elements of all 4096 centroids, and the factor of each width. */
function constantCodebook({ codebook, vector_dim: d }: Layer): { elements: number[]; factors: number[] } {
  const { elements, factors } = readJson(
    fileURLToPath(new URL(`../../docs/${codebook}.json`, import.meta.url)),
  )[d]
  return {
    elements: [...Buffer.from(elements, 'base64')].map((byte) => (byte > 127 ? byte - 256 : byte)),
    factors,
  }
}

function inNaturalOrder(
  weights: Float32Array,
  tensors: Tensors,
  name: string,
  { shape: [rows, cols] }: Layer,
): Float32Array {
  const width = Math.max(1, Math.ceil(Math.log2(cols)))
  const packed = numbers(tensors, `${name}.vq_permutation`, ['U8'], [Math.ceil((cols * width) / 8)])
  const ordered = new Float32Array(rows * cols)
  for (const [j, column] of unpack(packed, 0, cols, width).entries()) {
    for (let r = 0; r < rows; r++) ordered[r * cols + column] = weights[r * cols + j]
  }
  return ordered
}

function scaleBlocks(
  weights: Float32Array,
  tensors: Tensors,
  name: string,
  { shape: [rows, cols] }: Layer,
  size: number,
): void {
  const perRow = Math.ceil(cols / size)
  const rowBytes = Math.ceil(perRow / 2)
  const [ratio] = numbers(tensors, `${name}.vq_scale_ratio`, ['F32'], [1])
  const codes = numbers(tensors, `${name}.vq_scales`, ['U8'], [rows, rowBytes])
  const scales = [1]
  while (scales.length < 16) scales.push(Math.fround(scales[scales.length - 1] * ratio))
  for (let r = 0; r < rows; r++) {
    const rowCodes = unpack(codes, r * rowBytes, perRow, 4)
    for (let j = 0; j < cols; j++) weights[r * cols + j] *= scales[rowCodes[Math.floor(j / size)]]
  }
}

function readScalar(tensors: Tensors, name: string, { shape, bits, group_size: size }: Layer): Float32Array {
  const [rows, cols] = shape
  const groups = Math.ceil(cols / size)
  const rowBytes = Math.ceil((cols * bits) / 8)
  const codes = numbers(tensors, `${name}.sq_codes`, ['U8'], [rows, rowBytes])
  const scales = numbers(tensors, `${name}.sq_scales`, ['F16'], [rows, groups])
  const packedZeros = numbers(tensors, `${name}.sq_zeros`, ['U8'], [Math.ceil((rows * groups * bits) / 8)])
  const zeros = unpack(packedZeros, 0, rows * groups, bits)
  const weights = new Float32Array(rows * cols)
  for (let r = 0; r < rows; r++) {
    for (const [j, code] of unpack(codes, r * rowBytes, cols, bits).entries()) {
      const group = r * groups + Math.floor(j / size)
      weights[r * cols + j] = (code - zeros[group]) * scales[group]
    }
  }
  return weights
}
