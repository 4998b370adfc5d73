/** Values made of plain objects, arrays, strings, numbers and typed arrays, as JSON with the typed arrays beside it. */
import { bytesOf } from '../common/view-bytes.js'

const kinds = {
  Float32Array,
  Float64Array,
  Int8Array,
  Int32Array,
  Uint8Array,
  Uint16Array,
  Uint32Array,
} as const
type Kind = keyof typeof kinds
type TypedArray = InstanceType<(typeof kinds)[Kind]>

/** Arrays up to so many bytes stay in the JSON. */
const INLINE_BYTES = 256

/** Marks what JSON cannot hold; no object of ours has such a key. */
const MARK = '$gptvq'

/** Keeps the bytes of an array somewhere and returns by what name. */
export type KeepBytes = (bytes: Uint8Array) => Promise<string>
/** Gives back what {@link KeepBytes} was given. */
export type FindBytes = (name: string) => Promise<Uint8Array>

/** @param keep is given the bytes of each larger array */
export async function toJson(value: unknown, keep: KeepBytes): Promise<string> {
  return JSON.stringify(await encoded(value, keep))
}

/** The inverse of {@link toJson}, -0, NaN and infinities included; members that are undefined are left out. */
export async function fromJson(text: string, find: FindBytes): Promise<unknown> {
  return decoded(JSON.parse(text), find)
}

async function encoded(value: unknown, keep: KeepBytes): Promise<unknown> {
  if (typeof value === 'number' && (!Number.isFinite(value) || Object.is(value, -0))) {
    return { [MARK]: 'number', text: Object.is(value, -0) ? '-0' : String(value) }
  }
  if (ArrayBuffer.isView(value)) return encodedArray(value as TypedArray, keep)
  if (Array.isArray(value)) return Promise.all(value.map((element) => encoded(element, keep)))
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).filter(([, member]) => member !== undefined)
  return Object.fromEntries(
    await Promise.all(entries.map(async ([name, member]) => [name, await encoded(member, keep)] as const)),
  )
}

async function encodedArray(array: TypedArray, keep: KeepBytes): Promise<unknown> {
  const kind = array.constructor.name
  if (!(kind in kinds)) throw new TypeError(`an array of the kind ${kind} cannot be sent`)
  const bytes = bytesOf(array)
  if (bytes.length <= INLINE_BYTES) return { [MARK]: kind, base64: Buffer.from(bytes).toString('base64') }
  return { [MARK]: kind, name: await keep(bytes) }
}

async function decoded(value: unknown, find: FindBytes): Promise<unknown> {
  if (Array.isArray(value)) return Promise.all(value.map((element) => decoded(element, find)))
  if (typeof value !== 'object' || value === null) return value
  const { [MARK]: kind, text, base64, name } = value as Record<string, string | undefined>
  if (kind === 'number') return Number(text)
  if (kind !== undefined) {
    const bytes = base64 === undefined ? await find(name!) : Buffer.from(base64, 'base64')
    return arrayOf(kind as Kind, bytes)
  }
  return Object.fromEntries(
    await Promise.all(
      Object.entries(value).map(async ([name, member]) => [name, await decoded(member, find)] as const),
    ),
  )
}

function arrayOf(kind: Kind, bytes: Uint8Array): TypedArray {
  const Kind = kinds[kind]
  // a copy where the bytes lie askew in a larger buffer
  const own = bytes.byteOffset % Kind.BYTES_PER_ELEMENT === 0 ? bytes : bytes.slice()
  return new Kind(own.buffer as ArrayBuffer, own.byteOffset, own.byteLength / Kind.BYTES_PER_ELEMENT)
}
