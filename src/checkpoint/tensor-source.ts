import { CheckpointError, ShapeError } from '../common/errors.js'
import {
  bytesPerElement,
  type Dtype,
  decodeFloats,
  elementCount,
  type FloatDtype,
  isFloatDtype,
} from './dtype.js'
import { quoted } from './safetensors/header-text.js'

/** What is known of a tensor without reading it. */
export interface TensorInfo {
  /** Its name in the file. */
  readonly name: string
  /** Its element type. */
  readonly dtype: Dtype
  /** Sizes of the dimensions, outermost first; `[]` for a scalar. */
  readonly shape: readonly number[]
  /** Bytes of its data. */
  readonly bytes: number
  /** Path of the file that holds it. */
  readonly file: string
  /** How it is stored where that is no dtype: in a GGUF file, whose tensors are read as F32. */
  readonly stored?: {
    /** Its type there, e.g. `'Q4_K'`. */
    readonly type: string
    /** Bytes of its data there. */
    readonly bytes: number
  }
}

/** Tensors by name, each read from disk when asked for and never kept. */
export interface TensorSource {
  /** All tensors by name. */
  readonly tensors: ReadonlyMap<string, TensorInfo>
  /**
   * The tensor's bytes as stored: row-major, little-endian.
   *
   * @throws CheckpointError when there is no such tensor or the file cannot be read
   */
  readBytes(name: string): Promise<Uint8Array>
  /**
   * All elements of an F64, F32, F16 or BF16 tensor, row-major. F64 is rounded to float32.
   *
   * @throws CheckpointError when there is no such tensor, it holds integers or the file cannot be read
   */
  readFloats(name: string): Promise<Float32Array>
  /**
   * Rows `firstRow` to `firstRow + rowCount - 1` of a two-dimensional floating-point tensor; only their bytes are read.
   *
   * @throws CheckpointError as for `readFloats`
   * @throws ShapeError when the tensor is not two-dimensional or has no such rows
   */
  readRows(name: string, firstRow: number, rowCount: number): Promise<Float32Array>
  /** Closes the files; nothing can be read afterwards. Can be called again. */
  close(): Promise<void>
}

/** Bytes `byteStart` (counted within the tensor) up to but not including `byteEnd`. */
export type ReadRange = (name: string, byteStart: number, byteEnd: number) => Promise<Uint8Array>

/** Bytes decoded at a time: memory beyond the result when a tensor is read as floats. */
const CHUNK_BYTES = 2 ** 24

/** Finds a tensor. @throws CheckpointError when there is none of that name */
export function findTensor(
  tensors: ReadonlyMap<string, TensorInfo>,
  name: string,
  where: string,
): TensorInfo {
  const info = tensors.get(name)
  if (info !== undefined) return info
  throw new CheckpointError(`${where}: has no tensor ${quoted(name)} among its ${tensors.size}`)
}

/**
 * Builds a {@link TensorSource} from a way to read ranges of bytes.
 *
 * @param where how errors name the whole, e.g. the folder
 */
export function tensorSource(
  where: string,
  tensors: ReadonlyMap<string, TensorInfo>,
  readRange: ReadRange,
  close: () => Promise<void>,
): TensorSource {
  const readElements = async (info: TensorInfo, first: number, count: number): Promise<Float32Array> => {
    requireFloats(info)
    const size = bytesPerElement(info.dtype)
    const values = allocateFloats(count, info)
    for (let done = 0; done < count; ) {
      const next = Math.min(count, done + CHUNK_BYTES / size)
      const bytes = await readRange(info.name, (first + done) * size, (first + next) * size)
      decodeFloats(info.dtype, bytes, values.subarray(done, next))
      done = next
    }
    return values
  }
  return {
    tensors,
    async readBytes(name) {
      return readRange(name, 0, findTensor(tensors, name, where).bytes)
    },
    async readFloats(name) {
      const info = findTensor(tensors, name, where)
      return readElements(info, 0, elementCount(info.shape))
    },
    async readRows(name, firstRow, rowCount) {
      const info = findTensor(tensors, name, where)
      const cols = columnsForRows(info, firstRow, rowCount)
      return readElements(info, firstRow * cols, rowCount * cols)
    },
    close,
  }
}

/** Throws CheckpointError for a tensor that cannot be read as floats. */
export function requireFloats(info: TensorInfo): asserts info is TensorInfo & { readonly dtype: FloatDtype } {
  if (isFloatDtype(info.dtype)) return
  throw new CheckpointError(
    `${info.file}: tensor ${quoted(info.name)} is ${info.dtype}; expected floating-point numbers (F64, F32, F16 or BF16)`,
  )
}

function columnsForRows(info: TensorInfo, firstRow: number, rowCount: number): number {
  const owner = `${info.file}: tensor ${quoted(info.name)}`
  if (info.shape.length !== 2) {
    throw new ShapeError(
      `${owner} has the shape [${info.shape}]; rows can be read of two-dimensional tensors only`,
    )
  }
  const [rows, cols] = info.shape
  const whole = Number.isSafeInteger(firstRow) && Number.isSafeInteger(rowCount)
  if (!whole || firstRow < 0 || rowCount < 0 || firstRow + rowCount > rows) {
    throw new ShapeError(`${owner} has ${rows} rows; ${rowCount} rows from row ${firstRow} were asked for`)
  }
  return cols
}

function allocateFloats(count: number, info: TensorInfo): Float32Array {
  try {
    return new Float32Array(count)
  } catch (cause) {
    throw new CheckpointError(
      `${info.file}: tensor ${quoted(info.name)}: ${count} float32 values at once do not fit into memory; read it by rows`,
      { cause },
    )
  }
}
