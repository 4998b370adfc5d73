import type { GgufType } from './blocks/tensor-types.js'

/** A value of the metadata, by how it is written. */
export type GgufValue =
  | { readonly kind: 'u32'; readonly value: number }
  | { readonly kind: 'f32'; readonly value: number }
  | { readonly kind: 'bool'; readonly value: boolean }
  | { readonly kind: 'text'; readonly value: string }
  | { readonly kind: 'texts'; readonly value: readonly string[] }
  | { readonly kind: 'f32s' | 'i32s'; readonly value: readonly number[] }

/** Metadata in the order it is written. */
export type GgufValues = ReadonlyMap<string, GgufValue>

/** A tensor as the header tells of it. */
export interface HeaderTensor {
  readonly name: string
  readonly type: GgufType
  /** Outermost first. */
  readonly shape: readonly number[]
  /** From the beginning of the data, a multiple of {@link GGUF_ALIGNMENT}. */
  readonly offset: number
}

/** Tensors begin at multiples of so many bytes. */
export const GGUF_ALIGNMENT = 32

/** The least multiple of the alignment that is not below `bytes`. */
export function aligned(bytes: number): number {
  return Math.ceil(bytes / GGUF_ALIGNMENT) * GGUF_ALIGNMENT
}

const typeIds = { u32: 4, i32s: 5, f32: 6, f32s: 6, bool: 7, text: 8, texts: 8 } as const
const ARRAY = 9

/** The beginning of a GGUF file of version 3, filled up with zeros to where its data begins. */
export function ggufHeader(values: GgufValues, tensors: readonly HeaderTensor[]): Uint8Array {
  const bytes = byteWriter()
  bytes.raw(new TextEncoder().encode('GGUF'))
  bytes.u32(3)
  bytes.u64(tensors.length)
  bytes.u64(values.size)
  for (const [key, value] of values) {
    bytes.text(key)
    writeValue(bytes, value)
  }
  for (const { name, type, shape, offset } of tensors) {
    bytes.text(name)
    bytes.u32(shape.length)
    for (const size of shape.toReversed()) bytes.u64(size)
    bytes.u32(type.id)
    bytes.u64(offset)
  }
  bytes.raw(new Uint8Array(aligned(bytes.length()) - bytes.length()))
  return bytes.done()
}

function writeValue(bytes: ByteWriter, entry: GgufValue): void {
  if (Array.isArray(entry.value)) {
    bytes.u32(ARRAY)
    bytes.u32(typeIds[entry.kind])
    bytes.u64(entry.value.length)
  } else bytes.u32(typeIds[entry.kind])
  switch (entry.kind) {
    case 'u32':
      bytes.u32(entry.value)
      break
    case 'f32':
      bytes.f32(entry.value)
      break
    case 'bool':
      bytes.raw(Uint8Array.of(entry.value ? 1 : 0))
      break
    case 'text':
      bytes.text(entry.value)
      break
    case 'texts':
      for (const text of entry.value) bytes.text(text)
      break
    case 'f32s':
      for (const value of entry.value) bytes.f32(value)
      break
    case 'i32s':
      for (const value of entry.value) bytes.u32(value >>> 0)
  }
}

interface ByteWriter {
  raw(bytes: Uint8Array): void
  u32(value: number): void
  u64(value: number): void
  f32(value: number): void
  text(value: string): void
  length(): number
  done(): Uint8Array
}

/** Little-endian values one after the other, in a buffer that grows. */
function byteWriter(): ByteWriter {
  let buffer = new Uint8Array(2 ** 16)
  let view = new DataView(buffer.buffer)
  let at = 0
  const encoder = new TextEncoder()
  // may replace the buffer, so it is called before the buffer is named
  const room = (bytes: number) => {
    if (at + bytes > buffer.length) {
      const larger = new Uint8Array(Math.max(2 * buffer.length, at + bytes))
      larger.set(buffer)
      buffer = larger
      view = new DataView(buffer.buffer)
    }
    at += bytes
    return at - bytes
  }
  const u64 = (value: number) => {
    const place = room(8)
    view.setBigUint64(place, BigInt(value), true)
  }
  return {
    raw(bytes) {
      const place = room(bytes.length)
      buffer.set(bytes, place)
    },
    u32(value) {
      const place = room(4)
      view.setUint32(place, value, true)
    },
    u64,
    f32(value) {
      const place = room(4)
      view.setFloat32(place, value, true)
    },
    text(value) {
      const bytes = encoder.encode(value)
      u64(bytes.length)
      const place = room(bytes.length)
      buffer.set(bytes, place)
    },
    length: () => at,
    done: () => buffer.slice(0, at),
  }
}
