import { ShapeError } from '../../common/errors.js'
import type { ByteSource } from '../byte-source.js'
import { findTensor, type ReadRange, type TensorInfo } from '../tensor-source.js'
import { quoted } from './header-text.js'
import { headerLength, PREFIX_BYTES, parseHeader } from './safetensors-header.js'

/** An open safetensors file: its header is in memory, its data on disk. */
export interface SafetensorsFile {
  readonly path: string
  readonly metadata: ReadonlyMap<string, string>
  readonly tensors: ReadonlyMap<string, TensorInfo>
  /** All bytes of a tensor, in an array of their own. @throws CheckpointError when it is not there or unreadable */
  read(name: string): Promise<Uint8Array>
  /**
   * Bytes `byteStart` up to but not including `byteEnd` of a tensor, counted within the tensor.
   *
   * @throws CheckpointError when there is no such tensor or the file cannot be read
   * @throws ShapeError when the range is not inside the tensor
   */
  readonly readRange: ReadRange
  /** Can be called again. */
  close(): Promise<void>
}

/**
 * Opens a safetensors file: reads and checks its header, and of the data nothing. Asks the source only for ranges inside
 * its size, whatever the header claims.
 *
 * @throws CheckpointError when it is not a safetensors file, breaks a rule of the format or is truncated
 */
export async function readSafetensors(
  source: ByteSource,
  close: () => Promise<void>,
): Promise<SafetensorsFile> {
  const { path, size } = source
  const prefix = await source.readAt(0, Math.min(PREFIX_BYTES, size))
  const length = headerLength(prefix, size, path)
  const header = parseHeader(await source.readAt(PREFIX_BYTES, length), size, path)
  const tensors = new Map<string, TensorInfo>()
  for (const { name, dtype, shape, bytes } of header.tensors.values()) {
    tensors.set(name, { name, dtype, shape, bytes, file: path })
  }

  const readRange: ReadRange = async (name, byteStart, byteEnd) => {
    const { bytes } = findTensor(tensors, name, path)
    const whole = Number.isSafeInteger(byteStart) && Number.isSafeInteger(byteEnd)
    if (!whole || byteStart < 0 || byteEnd < byteStart || byteEnd > bytes) {
      throw new ShapeError(
        `${path}: tensor ${quoted(name)} has ${bytes} bytes; bytes ${byteStart} to ${byteEnd} were asked for`,
      )
    }
    const position = header.tensors.get(name)!.position
    return source.readAt(position + byteStart, byteEnd - byteStart)
  }

  return {
    path,
    metadata: header.metadata,
    tensors,
    read: async (name) => readRange(name, 0, findTensor(tensors, name, path).bytes),
    readRange,
    close,
  }
}
