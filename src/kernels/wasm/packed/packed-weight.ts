import { UnsupportedError } from '../../../errors.js'
import { packedRowBytes } from '../../bits.js'
import { type CodebookValues, type PackedSource, segmentsOf } from '../../packed-contract.js'
import { allocate, type KernelMemory } from '../runtime/memory.js'
import { trellisStreams } from './trellis-streams.js'

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
  /** What rounded activations have: columns, or slots of a trellis. */
  readonly slots: number
  readonly isPermuted: boolean
  /** Its elements are floats: activations are not rounded. */
  readonly isFloat: boolean
  /** Only with a trellis. */
  readonly trellis?: { readonly rowsPerGroup: number; readonly vectorDim: number }
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
  const streams = trellis && trellisStreams(source, values as CodebookValues, trellis)
  const none = new Uint8Array(0)
  const arrays = {
    codes: streams?.codes ?? codes,
    elements: isGrid ? none : values.elements,
    scales: values.scales,
    blockCodes: streams?.levelCodes ?? blocks?.codes ?? none,
    levels: blocks?.levels ?? none,
    segments,
    zeros: isGrid ? values.zeros : none,
    permutation: permutation ?? none,
    order: streams?.order ?? none,
    factors: streams?.factors ?? none,
    places: streams?.places ?? none,
    stretches: streams?.stretches ?? none,
    runs: streams?.runs ?? none,
    columnFactors: streams?.columnFactors ?? none,
    levelPairs: streams?.levelPairs ?? none,
  }
  const { at, bytes, places } = placeArrays(heap, source, arrays)
  const stateBits = trellis?.stateBits ?? codeBits
  const width = isGrid ? values.groupSize : values.columnsPerGroup
  const isFloat = !isGrid && values.elements instanceof Float32Array
  const rowBytes = trellis ? 0 : packedRowBytes(vectors, codeBits)
  const slots = streams?.order.length ?? cols
  const elementBytes = isFloat ? 4 : 1
  new Int32Array(heap.memory.buffer, at, HEADER_BYTES / 4).set([
    ...[rows, cols, places.codes, rowBytes, codeBits, stateBits, vectorDim],
    ...[isGrid ? 1 : values.rowsPerGroup, width, Math.ceil(cols / width), places.elements],
    trellis ? 0 : 2 ** stateBits * vectorDim * elementBytes,
    isGrid ? kinds.grid : isFloat ? kinds.floats : kinds.bytes,
    ...[places.scales, blocks?.size ?? 0, places.blockCodes],
    ...[blocks ? packedRowBytes(Math.ceil(cols / blocks.size), 4) : 0, places.levels],
    ...[places.segments, segments.length / 4, places.zeros, permutation ? places.permutation : 0],
    ...[slots, streams ? places.order : permutation ? places.permutation : 0],
  ])
  const ofTrellis = new Int32Array(heap.memory.buffer, at + FACTORS, 8).fill(0)
  if (streams) {
    ofTrellis.set([
      ...[places.factors, places.places, places.stretches, places.runs, streams.regionBytes],
      ...[places.columnFactors, blocks ? Math.ceil(cols / blocks.size) : 0, blocks ? places.levelPairs : 0],
    ])
  }
  if (!trellis && codeBits < 8) writeSpread(heap.memory.buffer, at, codeBits)
  return {
    at,
    bytes,
    vectors,
    segments: segments.length / 4,
    slots,
    isPermuted: permutation !== undefined,
    isFloat,
    ...(!isGrid && trellis && { trellis: { rowsPerGroup: values.rowsPerGroup, vectorDim } }),
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
