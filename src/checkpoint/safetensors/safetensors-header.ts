import { CheckpointError } from '../../common/errors.js'
import { bytesPerElement, DTYPES, type Dtype, isDtype, tensorBytes } from '../dtype.js'
import { isWellFormed, quoted, readHeaderText, type StatedTensor } from './header-text.js'

/** Largest header that is read or written, in bytes: the limit of the format. */
export const MAX_HEADER_BYTES = 100_000_000

/** Bytes of the little-endian header length that a file begins with. */
export const PREFIX_BYTES = 8

/** A tensor's place in its file. */
export interface TensorPlace {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
  /** Position of its first byte in the file. */
  readonly position: number
  readonly bytes: number
}

export interface SafetensorsHeader {
  readonly metadata: ReadonlyMap<string, string>
  /** By name, in the order of the header. */
  readonly tensors: ReadonlyMap<string, TensorPlace>
}

/**
 * Length of the JSON header, from the bytes a file begins with.
 *
 * @param prefix the first 8 bytes, or all bytes of a shorter file
 * @param fileSize bytes of the whole file
 * @param fileName how errors name the file
 * @throws CheckpointError when the file cannot be a safetensors file or is cut off inside its header
 */
export function headerLength(prefix: Uint8Array, fileSize: number, fileName: string): number {
  if (prefix.length < PREFIX_BYTES) {
    throw new CheckpointError(
      `${fileName}: has ${fileSize} bytes, too few for a safetensors file (at least ${PREFIX_BYTES + 2}). ${FETCH_AGAIN}`,
    )
  }
  if (new TextDecoder('latin1').decode(prefix) === 'version ') {
    throw new CheckpointError(
      `${fileName}: is a Git LFS pointer, not the weights themselves. Run \`git lfs pull\` in its folder`,
    )
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true)
  if (length > MAX_HEADER_BYTES) {
    throw new CheckpointError(
      `${fileName}: claims a header of ${length} bytes, over the limit of ${MAX_HEADER_BYTES}. ` +
        `It is no safetensors file, or damaged. ${FETCH_AGAIN}`,
    )
  }
  const missing = PREFIX_BYTES + Number(length) - fileSize
  if (missing > 0) throw truncated(fileName, missing, 'inside its header')
  return Number(length)
}

/**
 * Reads and checks the header of a safetensors file.
 *
 * @param headerBytes the JSON, without the 8 bytes before it
 * @param fileSize bytes of the whole file
 * @param fileName how errors name the file
 * @throws CheckpointError when the header breaks a rule of the format or does not describe a file of that size
 */
export function parseHeader(headerBytes: Uint8Array, fileSize: number, fileName: string): SafetensorsHeader {
  if (headerBytes.length > MAX_HEADER_BYTES) {
    throw new CheckpointError(
      `${fileName}: its header has ${headerBytes.length} bytes, over the limit of ${MAX_HEADER_BYTES}`,
    )
  }
  if (headerBytes[0] !== 0x7b) {
    throw new CheckpointError(
      `${fileName}: its header does not begin with "{", so it is no safetensors file, or damaged. ${FETCH_AGAIN}`,
    )
  }
  const { metadata, tensors: stated } = readHeaderText(decodeUtf8(headerBytes, fileName), fileName)
  const dataStart = PREFIX_BYTES + headerBytes.length
  const tensors = new Map<string, TensorPlace>()
  for (const tensor of stated) tensors.set(tensor.name, placeTensor(tensor, dataStart, fileName))
  checkLayout(tensors, dataStart, fileSize, fileName)
  return { metadata, tensors }
}

/** What {@link buildHeader} needs to know of a tensor. */
export interface HeaderEntry {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
}

/**
 * Everything that stands before the data of a safetensors file: the length, and the JSON padded with spaces so that
 * the data begins at a multiple of 8 bytes.
 *
 * @param entries the tensors in the order of their data, which must follow without gaps
 * @param metadata written as `__metadata__`, sorted by key, when not empty
 * @throws CheckpointError when the header would be larger than the format allows, or a name cannot be written
 */
export function buildHeader(
  entries: readonly HeaderEntry[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const members: string[] = []
  const notes = Object.entries(metadata).sort(byKey)
  if (notes.length > 0) {
    members.push(`"__metadata__":{${notes.map((pair) => pair.map(jsonText).join(':')).join(',')}}`)
  }
  let start = 0
  for (const { name, dtype, shape } of entries) {
    const end = start + tensorBytes(dtype, shape)
    members.push(`${jsonText(name)}:{"dtype":"${dtype}","shape":[${shape}],"data_offsets":[${start},${end}]}`)
    start = end
  }
  const json = new TextEncoder().encode(`{${members.join(',')}}`)
  const length = Math.ceil(json.length / 8) * 8
  if (length > MAX_HEADER_BYTES) {
    throw new CheckpointError(
      `a safetensors header of ${entries.length} tensors would have ${length} bytes, over the limit of ${MAX_HEADER_BYTES}. Write smaller shards`,
    )
  }
  const header = new Uint8Array(PREFIX_BYTES + length).fill(0x20)
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true)
  header.set(json, PREFIX_BYTES)
  return header
}

/** Order of the data in a file: falling element size, then name, so that every tensor is aligned to its elements. */
export function byAlignment(a: HeaderEntry, b: HeaderEntry): number {
  return bytesPerElement(b.dtype) - bytesPerElement(a.dtype) || (a.name < b.name ? -1 : 1)
}

const FETCH_AGAIN = 'Fetch it again'

function byKey(a: readonly [string, string], b: readonly [string, string]): number {
  return a[0] < b[0] ? -1 : 1
}

function jsonText(text: string): string {
  if (!isWellFormed(text))
    throw new CheckpointError(`${quoted(text)} has half a surrogate pair and cannot be written as UTF-8`)
  return JSON.stringify(text)
}

function decodeUtf8(bytes: Uint8Array, fileName: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (cause) {
    throw new CheckpointError(
      `${fileName}: its header is not valid UTF-8: the file is damaged. ${FETCH_AGAIN}`,
      {
        cause,
      },
    )
  }
}

function placeTensor(stated: StatedTensor, dataStart: number, fileName: string): TensorPlace {
  const { name, dtype, shape, start, end } = stated
  if (!isDtype(dtype)) {
    throw new CheckpointError(
      `${fileName}: tensor ${quoted(name)} has the dtype ${quoted(dtype)}, which cannot be read; ` +
        `expected one of ${DTYPES.join(', ')}. Convert the checkpoint to one of them`,
    )
  }
  const bytes = tensorBytes(dtype, shape)
  if (end < start || end - start !== bytes) {
    throw new CheckpointError(
      `${fileName}: tensor ${quoted(name)} has the shape [${shape}] of ${dtype}, that is ${bytes} bytes, ` +
        `but its data_offsets [${start}, ${end}] hold ${end - start}. The file is damaged. ${FETCH_AGAIN}`,
    )
  }
  return { name, dtype, shape, position: dataStart + start, bytes }
}

/** Checks that the tensors fill the data of the file from its first byte to its last, one after the other. */
function checkLayout(
  tensors: ReadonlyMap<string, TensorPlace>,
  dataStart: number,
  fileSize: number,
  fileName: string,
): void {
  const inFileOrder = [...tensors.values()].sort((a, b) => a.position - b.position || a.bytes - b.bytes)
  let reached = dataStart
  let before = 'the header'
  for (const { name, position, bytes } of inFileOrder) {
    const owner = `tensor ${quoted(name)}`
    if (position !== reached) {
      const problem =
        position < reached
          ? `${owner} overlaps ${before} by ${reached - position} bytes`
          : `there is a hole of ${position - reached} bytes between ${before} and ${owner}`
      throw new CheckpointError(
        `${fileName}: ${problem}. The file is damaged or was written wrongly. ${FETCH_AGAIN}`,
      )
    }
    reached += bytes
    before = owner
  }
  if (reached > fileSize) throw truncated(fileName, reached - fileSize, `before the end of ${before}`)
  if (reached < fileSize) {
    throw new CheckpointError(
      `${fileName}: ${fileSize - reached} bytes follow the end of ${before}, the last that its header names. The file is damaged. ${FETCH_AGAIN}`,
    )
  }
}

function truncated(fileName: string, missing: number, where: string): CheckpointError {
  return new CheckpointError(
    `${fileName}: is truncated: it ends ${where}, ${missing} bytes are missing. An interrupted download or copy? ${FETCH_AGAIN}`,
  )
}
