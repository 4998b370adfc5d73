import { elementCount, encodeFloats } from '../checkpoint/dtype.js'
import { quoted } from '../checkpoint/safetensors/header-text.js'
import { findTensor, type TensorInfo, type TensorSource } from '../checkpoint/tensor-source.js'
import { CheckpointError, ShapeError, UnsupportedError } from '../common/errors.js'
import { bytesOfType, decodeType } from './blocks/tensor-types.js'
import type { GgufFile, GgufTensor } from './read-gguf.js'
import { inverseOrder } from './row-order.js'
import type { NamedTensor } from './tensor-names.js'

/** A tensor of the model: some rows of a tensor of the file. */
interface Part {
  readonly info: TensorInfo
  readonly tensor: GgufTensor
  readonly named: NamedTensor
  /** The row of the file's tensor at which it begins. */
  readonly firstRow: number
}

/** Values decoded at a time: memory beyond the result. */
const CHUNK_VALUES = 2 ** 22

/**
 * The tensors of a GGUF file by the names of the model, as float32: dequantized, rows in the model's order, norms as
 * the model stores them.
 *
 * @param named the tensors that the model has, each of which the file must hold
 * @throws CheckpointError when one is missing or of another shape
 */
export function ggufTensorSource(file: GgufFile, named: readonly NamedTensor[]): TensorSource {
  requireKnown(file, named)
  const parts = new Map<string, Part>()
  for (const one of named) addParts(parts, file, one)
  const tensors = new Map([...parts].map(([name, { info }]) => [name, info]))
  const partOf = (name: string) => parts.get(findTensor(tensors, name, file.path).name)!
  const readFloats = (name: string) => readPart(partOf(name))
  return {
    tensors,
    readFloats,
    readBytes: async (name) => encodeFloats('F32', await readFloats(name)),
    readRows: (name, first, count) => readSomeRows(partOf(name), first, count),
    close: file.close,
  }
}

/** What a model computes must not depend on a tensor that nobody reads. */
function requireKnown(file: GgufFile, named: readonly NamedTensor[]): void {
  const known = new Set(named.map(({ name }) => name))
  const others = [...file.tensors.keys()].filter((name) => !known.has(name) && !name.startsWith('rope_'))
  if (others.length === 0) return
  const shown = others.slice(0, 3).map(quoted).join(', ')
  throw new UnsupportedError(
    `${file.path}: has ${others.length} tensors that its architecture does not know (${shown}${others.length > 3 ? ', ...' : ''}): ` +
      'the model is of a kind that cannot be run',
  )
}

function addParts(parts: Map<string, Part>, file: GgufFile, named: NamedTensor): void {
  const tensor = file.tensors.get(named.name)
  if (tensor === undefined) {
    throw new CheckpointError(
      `${file.path}: has no tensor ${quoted(named.name)} among its ${file.tensors.size}, which its architecture needs. ` +
        'The file is damaged or of a converter that writes the model otherwise: use the model that it was made of',
    )
  }
  if (!sameShape(tensor.shape, named.shape)) {
    throw new CheckpointError(
      `${file.path}: tensor ${quoted(named.name)} has the shape [${tensor.shape}], expected [${named.shape}] by the metadata. The file is damaged or of a converter that writes the model otherwise`,
    )
  }
  const { sources, sourceShape: shape, rows } = named
  for (const [i, name] of sources.entries()) {
    const bytes = tensor.bytes / sources.length
    const stored = { type: tensor.type.name, bytes }
    const info: TensorInfo = {
      name,
      dtype: 'F32',
      shape,
      bytes: 4 * elementCount(shape),
      file: tensor.file,
      stored,
    }
    parts.set(name, { info, tensor, named, firstRow: i * rows })
  }
}

/** Dimensions of one do not count: converters leave them out. */
function sameShape(a: readonly number[], b: readonly number[]): boolean {
  const [x, y] = [a, b].map((shape) => shape.filter((size) => size !== 1))
  return x.length === y.length && x.every((size, i) => size === y[i])
}

async function readPart(part: Part): Promise<Float32Array> {
  const { order, rows, cols } = part.named
  const values = await readStored(part, 0, rows)
  if (order === undefined) return values
  const places = inverseOrder(order, rows)
  const sorted = new Float32Array(values.length)
  for (let row = 0; row < rows; row++) {
    sorted.set(values.subarray(places[row] * cols, (places[row] + 1) * cols), row * cols)
  }
  return sorted
}

async function readSomeRows(part: Part, first: number, count: number): Promise<Float32Array> {
  const { info, named } = part
  if (info.shape.length !== 2) {
    throw new ShapeError(
      `${info.file}: tensor ${quoted(info.name)} has the shape [${info.shape}]; rows can be read of two-dimensional tensors only`,
    )
  }
  const whole = Number.isSafeInteger(first) && Number.isSafeInteger(count)
  if (!whole || first < 0 || count < 0 || first + count > named.rows) {
    throw new ShapeError(
      `${info.file}: tensor ${quoted(info.name)} has ${named.rows} rows; ${count} rows from row ${first} were asked for`,
    )
  }
  if (named.order === undefined) return readStored(part, first, count)
  const { cols } = named
  return (await readPart(part)).slice(first * cols, (first + count) * cols)
}

/** Rows as they stand in the file. */
async function readStored(
  { tensor, named, firstRow }: Part,
  first: number,
  count: number,
): Promise<Float32Array> {
  const { cols, offset } = named
  const values = new Float32Array(count * cols)
  const rowBytes = bytesOfType(tensor.type, cols)
  const rowsAtOnce = Math.max(1, Math.floor(CHUNK_VALUES / cols))
  // a list with an order has rows of one value, and no blocks
  for (let row = 0; row < count; row += rowsAtOnce) {
    const rows = Math.min(rowsAtOnce, count - row)
    const start = (firstRow + first + row) * rowBytes
    const bytes = await tensor.read(start, start + rows * rowBytes)
    decodeType(tensor.type, bytes, values.subarray(row * cols, (row + rows) * cols))
  }
  if (offset !== 0) for (let i = 0; i < values.length; i++) values[i] -= offset
  return values
}
