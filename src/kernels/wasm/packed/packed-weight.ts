import { UnsupportedError } from '../../../errors.js'
import { packedRowBytes, raggedRowBytes } from '../../bits.js'
import { type PackedSource, segmentsOf } from '../../packed-contract.js'
import type { TrellisColumns } from '../../trellis-contract.js'
import { allocate, type KernelMemory } from '../runtime/memory.js'

/** Numbers at the start of a packed weight, see `assembly/packed-weight.ts`; codes of less than 8 bits need two vectors. */
const HEADER_BYTES = 192
const [SPREAD, LIFT, FACTORS] = [96, 112, 128]
/** What may be read beyond the end of an array. */
const MARGIN = 64
const kinds = { bytes: 0, floats: 1, grid: 2 } as const

/** A packed weight in the kernels' memory. */
export interface PreparedWeight {
  readonly at: number
  readonly bytes: number
  readonly vectors: number
  readonly segments: number
  readonly isPermuted: boolean
  /** Its elements are floats: activations are not rounded. */
  readonly isFloat: boolean
  /** Rows that a tile looks at once more, at most, for what the rows above say of its first. */
  readonly lead: number
}

/**
 * Copies a packed weight into the kernels' memory, all in one stretch.
 *
 * @throws UnsupportedError when there is no room
 */
export function placeWeight(heap: KernelMemory, source: PackedSource): PreparedWeight {
  const { rows, cols, codes, codeBits, values, permutation } = source
  const segments = Int32Array.from(
    segmentsOf(source).flatMap(({ start, end, group, block }) => [start, end, group, block]),
  )
  const isGrid = values.kind === 'grid'
  const blocks = isGrid ? undefined : values.blocks
  const trellis = isGrid ? undefined : values.trellis
  const vectorDim = isGrid ? 1 : values.vectorDim
  const vectors = Math.ceil(cols / vectorDim)
  const arrays = {
    codes,
    elements: isGrid ? new Int8Array(0) : values.elements,
    scales: values.scales,
    blockCodes: blocks?.codes ?? new Uint8Array(0),
    levels: blocks?.levels ?? new Float32Array(0),
    segments,
    zeros: isGrid ? values.zeros : new Uint8Array(0),
    permutation: permutation ?? new Uint32Array(0),
    splits: trellis ? splitsOf(trellis, vectorDim) : new Uint8Array(0),
    powers: Uint16Array.from(trellis?.widths ?? [], (width) => 2 ** width),
    factors: trellis ? factorsOf(trellis, vectorDim) : new Float32Array(0),
  }
  const { at, bytes, places } = placeArrays(heap, source, arrays)
  const stateBits = trellis?.stateBits ?? codeBits
  const width = isGrid ? values.groupSize : values.columnsPerGroup
  const isFloat = !isGrid && values.elements instanceof Float32Array
  const rowBytes = trellis ? raggedRowBytes(trellis.widths) : packedRowBytes(vectors, codeBits)
  const lead = trellis ? Math.max(...trellis.widths.map((width) => Math.ceil(stateBits / width) - 1)) : 0
  const elementBytes = isFloat ? 4 : 1
  new Int32Array(heap.memory.buffer, at, HEADER_BYTES / 4).set([
    ...[rows, cols, places.codes, rowBytes, codeBits, stateBits, vectorDim],
    ...[isGrid ? 1 : values.rowsPerGroup, width, Math.ceil(cols / width), places.elements],
    trellis ? 0 : 2 ** stateBits * vectorDim * elementBytes,
    isGrid ? kinds.grid : isFloat ? kinds.floats : kinds.bytes,
    ...[places.scales, blocks?.size ?? 0, places.blockCodes],
    ...[blocks ? packedRowBytes(Math.ceil(cols / blocks.size), 4) : 0, places.levels],
    ...[places.segments, segments.length / 4, places.zeros, permutation ? places.permutation : 0],
    ...(trellis ? [places.splits, places.powers] : [0, 0]),
  ])
  new Int32Array(heap.memory.buffer, at + FACTORS, 3).set([
    ...[trellis ? places.factors : 0, lead, Number(trellis !== undefined && isNarrow(trellis))],
  ])
  if (!trellis && codeBits < 8) writeSpread(heap.memory.buffer, at, codeBits)
  return {
    at,
    bytes,
    vectors,
    segments: segments.length / 4,
    isPermuted: permutation !== undefined,
    isFloat,
    lead,
  }
}

function placeArrays<K extends string>(
  heap: KernelMemory,
  { rows, cols }: PackedSource,
  arrays: Record<K, ArrayBufferView>,
): { at: number; bytes: number; places: Record<K, number> } {
  const entries = Object.entries(arrays) as [K, ArrayBufferView][]
  const rooms = entries.map(([, { byteLength }]) => 64 * Math.ceil((byteLength + MARGIN) / 64))
  const bytes = HEADER_BYTES + rooms.reduce((sum, room) => sum + room, 0)
  const at = allocateWeight(heap, bytes, `${rows} x ${cols}`)
  const places = {} as Record<K, number>
  let to = at + HEADER_BYTES
  for (const [i, [name, { buffer, byteOffset, byteLength }]] of entries.entries()) {
    new Uint8Array(heap.memory.buffer, to, byteLength).set(new Uint8Array(buffer, byteOffset, byteLength))
    places[name] = to
    to += rooms[i]
  }
  return { at, bytes, places }
}

function allocateWeight(heap: KernelMemory, bytes: number, shape: string): number {
  try {
    return allocate(heap, bytes)
  } catch (cause) {
    throw new UnsupportedError(
      `a packed weight of ${shape} takes ${bytes} bytes, for which the kernels' memory of at most 2 GiB has no room left; ` +
        'release other weights, or quantize the model to fewer bits',
      { cause },
    )
  }
}

/** Of 8 codes that follow each other: the two bytes each is in, and the power of two that brings it to their top. */
function writeSpread(memory: ArrayBufferLike, at: number, codeBits: number): void {
  const spread = new Uint8Array(memory, at + SPREAD, 16)
  const lift = new Uint16Array(memory, at + LIFT, 8)
  for (let code = 0; code < 8; code++) {
    const [byte, bit] = [(code * codeBits) >> 3, (code * codeBits) & 7]
    spread.set([byte, byte + 1], 2 * code)
    lift[code] = 2 ** (16 - codeBits - bit)
  }
}

/** Bytes of what takes the codes of some columns of vectors apart, see `assembly/packed-codes.ts`. */
const SPLIT_BYTES = 64

const isNarrow = ({ widths }: TrellisColumns) => widths.every((width) => width <= 7)

function splitsOf(trellis: TrellisColumns, vectorDim: number): Uint8Array {
  return isNarrow(trellis) ? narrowSplits(trellis) : wideSplits(trellis, vectorDim)
}

/** For every 8 columns: two bytes with each code, 1 to 8 bits above their start; what moves it down; its mask. */
function narrowSplits({ widths }: TrellisColumns): Uint8Array {
  const splits = new Uint8Array(SPLIT_BYTES * Math.ceil(widths.length / 8))
  let bit = 0
  for (let first = 0; first < widths.length; first += 8) {
    const at = SPLIT_BYTES * (first / 8)
    const [moves, masks] = [16, 32].map((part) => new Uint16Array(splits.buffer, at + part, 8))
    const start = (bit - 1) >> 3
    new Int32Array(splits.buffer, at + 48, 1)[0] = start
    for (const [i, width] of widths.subarray(first, first + 8).entries()) {
      const byte = (bit - 1) >> 3
      const above = bit - 8 * byte
      splits.set([byte - start, byte - start + 1], at + 2 * i)
      moves[i] = 2 ** (15 - above)
      masks[i] = (2 ** width - 1) << above
      bit += width
    }
  }
  return splits
}

/** For every 4 columns: the 4 bytes each code starts in, what lifts it by 7 bits, its mask once it is times `vectorDim`. */
function wideSplits({ widths }: TrellisColumns, vectorDim: number): Uint8Array {
  const splits = new Uint8Array(SPLIT_BYTES * 2 * Math.ceil(widths.length / 8))
  let bit = 0
  for (let first = 0; first < widths.length; first += 4) {
    const at = SPLIT_BYTES * (first / 4)
    const start = bit >> 3
    const [lifts, masks] = [16, 32].map((part) => new Uint32Array(splits.buffer, at + part, 4))
    new Int32Array(splits.buffer, at + 48, 1)[0] = start
    for (const [i, width] of widths.subarray(first, first + 4).entries()) {
      const byte = (bit >> 3) - start
      splits.set([byte, byte + 1, byte + 2, byte + 3], at + 4 * i)
      lifts[i] = 2 ** (7 - (bit & 7))
      masks[i] = (2 ** width - 1) * vectorDim
      bit += width
    }
  }
  return splits
}

/** The factor of each column of weights. */
function factorsOf({ factors }: TrellisColumns, vectorDim: number): Float32Array {
  return Float32Array.from(
    { length: factors.length * vectorDim },
    (_, j) => factors[Math.floor(j / vectorDim)],
  )
}
