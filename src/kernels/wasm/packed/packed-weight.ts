import { UnsupportedError } from '../../../common/errors.js'
import { bytesOf } from '../../../common/view-bytes.js'
import { packedRowBytes, raggedRowBytes } from '../../bits.js'
import { type CodebookValues, type PackedSource, type Segment, segmentsOf } from '../../packed-contract.js'
import type { TrellisColumns } from '../../trellis-contract.js'
import { jobKinds } from '../runtime/job.js'
import { allocate, type KernelMemory, release } from '../runtime/memory.js'
import { type Pool, runJob } from '../runtime/pool.js'
import { withMemory } from '../runtime/stage.js'
import { type NibbleTiles, nibbleSlots } from './nibble-slots.js'
import { type TrellisStreams, trellisStreams } from './trellis-streams.js'

/** Numbers at the start of a packed weight, see `assembly/packed-weight.ts`; codes of less than 8 bits need two vectors. */
const HEADER_BYTES = 192
const [SPREAD, LIFT, FACTORS, REGION_BYTES, TILE_ROWS] = [96, 112, 128, 144, 160]
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
  /** Two slots each that are filled, of all segments and of the longest: an odd one has a pair of its own. */
  readonly pairs: number
  readonly mostPairs: number
  readonly isPermuted: boolean
  /** Its elements are floats: activations are not rounded. */
  readonly isFloat: boolean
  /** Only where `assembly/packed/nibble-product.ts` multiplies. */
  readonly nibbles?: NibbleTiles
  /** Only with a trellis. */
  readonly trellis?: { readonly rowsPerGroup: number; readonly vectorDim: number }
}

/**
 * Copies a packed weight into the kernels' memory, all in one stretch.
 *
 * @throws UnsupportedError when there is no room
 */
export function placeWeight(pool: Pool, source: PackedSource): PreparedWeight {
  const { heap } = pool.runtime
  const { cols, codeBits, values } = source
  const segments = segmentsOf(source)
  const isGrid = values.kind === 'grid'
  const trellis = isGrid ? undefined : values.trellis
  const vectorDim = isGrid ? 1 : values.vectorDim
  const streams = trellis && trellisStreams(source, values as CodebookValues, trellis)
  const nibbles = nibbleSlots(source, segments)
  const form = streams?.arrays ?? nibbles?.arrays
  const arrays = { ...arraysOf(source, segments), ...form }
  const { at, bytes, places } = placeArrays(heap, source, arrays)
  writeHeader(
    heap.memory.buffer,
    at,
    source,
    segments.length,
    places,
    form?.order.length ?? cols,
    nibbles !== undefined,
  )
  if (streams && trellis) {
    new Int32Array(heap.memory.buffer, at + REGION_BYTES, 1)[0] = streams.regionBytes
    try {
      layStreams(pool, source, trellis, streams, places.codes)
    } catch (error) {
      release(heap, at)
      throw error
    }
  }
  if (nibbles) {
    const { tileRows, groupRows, goesDown } = nibbles.tiles
    const { levelsDown, levelPlanes } = places
    const header = [tileRows, groupRows, goesDown ? 1 : 0, levelsDown, levelPlanes]
    new Int32Array(heap.memory.buffer, at + TILE_ROWS, header.length).set(header)
  }
  if (!trellis && codeBits < 8) writeSpread(heap.memory.buffer, at, codeBits)
  return {
    at,
    bytes,
    vectors: Math.ceil(cols / vectorDim),
    segments: segments.length,
    slots: form?.order.length ?? cols,
    ...pairsOf(form?.stretches, segments, trellis && vectorDim === 1 ? 2 : 1),
    isPermuted: source.permutation !== undefined,
    isFloat: !isGrid && values.elements instanceof Float32Array,
    ...(nibbles && { nibbles: nibbles.tiles }),
    ...(!isGrid && trellis && { trellis: { rowsPerGroup: values.rowsPerGroup, vectorDim } }),
  }
}

function pairsOf(
  stretches: Int32Array | undefined,
  segments: readonly Segment[],
  slotsPerFilled: number,
): Pick<PreparedWeight, 'pairs' | 'mostPairs'> {
  const counts = segments.map(({ start, end }, i) => {
    const slots = stretches ? stretches[6 * i + 1] - stretches[6 * i] : end - start
    return Math.ceil(slots / slotsPerFilled / 2)
  })
  return { pairs: counts.reduce((sum, count) => sum + count, 0), mostPairs: Math.max(...counts) }
}

/** Writes the codes of a trellis, row groups on all threads; for as long, the stored ones are in the kernels' memory too. */
function layStreams(
  pool: Pool,
  { rows, codes, values }: PackedSource,
  { stateBits, widths }: TrellisColumns,
  { entries, regionBytes }: TrellisStreams,
  to: number,
): void {
  const { rowsPerGroup } = values as CodebookValues
  const { heap } = pool.runtime
  withMemory(heap, [codes.byteLength + MARGIN, entries.byteLength], (stored, table) => {
    new Uint8Array(heap.memory.buffer, stored, codes.byteLength).set(codes)
    new Int32Array(heap.memory.buffer, table, entries.length).set(entries)
    const params = [stored, raggedRowBytes(widths), rows, rowsPerGroup, table, entries.length / 2]
    const groups = Math.ceil(rows / rowsPerGroup)
    runJob(pool, jobKinds.layStreams, groups, [...params, stateBits, to, regionBytes], 0)
  })
}

/** What the kernels read of a weight, where nothing else takes its place. */
function arraysOf({ codes, values, permutation }: PackedSource, segments: readonly Segment[]) {
  const isGrid = values.kind === 'grid'
  const none: Part = new Uint8Array(0)
  return {
    codes: codes as Part,
    elements: isGrid ? none : values.elements,
    scales: values.scales,
    levelCodes: (isGrid ? undefined : values.blocks?.codes) ?? none,
    levels: (isGrid ? undefined : values.blocks?.levels) ?? none,
    segments: Int32Array.from(segments.flatMap(({ start, end, group, block }) => [start, end, group, block])),
    zeros: isGrid ? values.zeros : none,
    permutation: permutation ?? none,
    order: none,
    factors: none,
    places: none,
    stretches: none,
    runs: none,
    columnFactors: none,
    levelPairs: none,
    levelsDown: none,
    levelPlanes: none,
  }
}

function writeHeader(
  memory: ArrayBufferLike,
  at: number,
  { rows, cols, codeBits, values }: PackedSource,
  segments: number,
  places: Record<keyof ReturnType<typeof arraysOf>, number>,
  slots: number,
  isTiled: boolean,
): void {
  const isGrid = values.kind === 'grid'
  const trellis = isGrid ? undefined : values.trellis
  const blockSize = (isGrid ? undefined : values.blocks?.size) ?? 0
  const blocks = blockSize && Math.ceil(cols / blockSize)
  const vectorDim = isGrid ? 1 : values.vectorDim
  const width = isGrid ? values.groupSize : values.columnsPerGroup
  const stateBits = trellis?.stateBits ?? codeBits
  const rowBytes = trellis ? 0 : isTiled ? slots / 4 : packedRowBytes(Math.ceil(cols / vectorDim), codeBits)
  const isFloat = !isGrid && values.elements instanceof Float32Array
  new Int32Array(memory, at, HEADER_BYTES / 4)
    .fill(0)
    .set([
      ...[rows, cols, places.codes, rowBytes],
      ...[codeBits, stateBits, vectorDim, isGrid ? 1 : values.rowsPerGroup, width, Math.ceil(cols / width)],
      ...[places.elements, trellis ? 0 : 2 ** stateBits * vectorDim * (isFloat ? 4 : 1)],
      isGrid ? kinds.grid : isFloat ? kinds.floats : kinds.bytes,
      ...[places.scales, blockSize, places.levelCodes, packedRowBytes(blocks, 4), places.levels],
      ...[places.segments, segments, places.zeros, places.permutation],
      ...[slots, places.order || places.permutation],
    ])
  new Int32Array(memory, at + FACTORS, 8).set([
    ...[places.factors, places.places, places.stretches, places.runs, 0, places.columnFactors],
    ...[blocks, places.levelPairs],
  ])
}

/** An array, or room of zeros. */
type Part = ArrayBufferView | { readonly byteLength: number }

/** Puts all arrays into one stretch of memory, and says where they are; 0: empty. */
function placeArrays<K extends string>(
  heap: KernelMemory,
  { rows, cols }: PackedSource,
  arrays: Record<K, Part>,
): { at: number; bytes: number; places: Record<K, number> } {
  const entries = Object.entries(arrays) as [K, Part][]
  const rooms = entries.map(([, { byteLength }]) => byteLength && 64 * Math.ceil((byteLength + MARGIN) / 64))
  const bytes = HEADER_BYTES + rooms.reduce((sum, room) => sum + room, 0)
  const at = allocateWeight(heap, bytes, `${rows} x ${cols}`)
  const places = {} as Record<K, number>
  let to = at + HEADER_BYTES
  for (const [i, [name, part]] of entries.entries()) {
    const { byteLength } = part
    const target = new Uint8Array(heap.memory.buffer, to, byteLength)
    if (ArrayBuffer.isView(part)) target.set(bytesOf(part))
    else target.fill(0)
    places[name] = byteLength > 0 ? to : 0
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
