import { packedRowBytes } from '../../bits.js'
import {
  type BlockLevels,
  type CodebookValues,
  type PackedSource,
  type Segment,
  segmentsOf,
} from '../../packed-contract.js'
import type { TrellisColumns } from '../../trellis-contract.js'
import { pairsOf } from './nibble-slots.js'

/** As in `assembly/packed/trellis-run.ts` and `trellis-streams.ts`. */
const TILE_ROWS = 16
const SHIFT = 2

/**
 * A trellis in the order in which products read it. A segment has an entry for each of its vectors, those with codes of equal
 * width side by side: a run. An entry has slots for activations, at least two, and in each row group a stream of its codes,
 * from the last row up. Streams of a row group follow each other; whole tiles of 16 rows have room in each.
 */
export interface TrellisStreams {
  readonly arrays: TrellisArrays
  /** Of each entry: the first bit of its code in a stored row, and the width. */
  readonly entries: Int32Array
  /** Of the streams of a row group of full height. */
  readonly regionBytes: number
}

interface TrellisArrays {
  /** Room for the streams. */
  readonly codes: { readonly byteLength: number }
  /** Of each vector: width; widths in sum of the streams before its own; bytes behind the rows of those; 12 bytes. */
  readonly places: Int32Array
  /** Of each segment: start, end of its slots; first, end of its runs; as above of its first stream. */
  readonly stretches: Int32Array
  /** Width, length. */
  readonly runs: Int32Array
  /** The column of X of each slot, -1 for none. */
  readonly order: Int32Array
  /** Of each slot; of each column. */
  readonly factors: Float32Array
  readonly columnFactors: Float32Array
  /** Where there are levels: the codes of each block of a row group, down its rows, two a byte; what such a byte stands for. */
  readonly levelCodes: Uint8Array
  readonly levelPairs: Float32Array
}

interface Entry {
  readonly vector: number
  readonly segment: Segment
  readonly width: number
}

export function trellisStreams(
  source: PackedSource,
  values: CodebookValues,
  trellis: TrellisColumns,
): TrellisStreams {
  const { rows, cols, permutation } = source
  const { vectorDim: d, rowsPerGroup } = values
  const segments = segmentsOf(source)
  const entries = segments.flatMap((segment) => entriesOf(segment, d, trellis))
  const tails = entries.map(({ width }) => Math.ceil((SHIFT + trellis.stateBits - width) / 8))
  const regionBytes = (height: number) =>
    entries.reduce((sum, { width }, i) => sum + (height / 8) * width + tails[i], 0)
  const heights = Array.from({ length: Math.ceil(rows / rowsPerGroup) }, (_, group) =>
    heightOf(Math.min(rowsPerGroup, rows - group * rowsPerGroup)),
  )
  const codes = { byteLength: heights.reduce((sum, height) => sum + regionBytes(height), 0) }
  const slots = Math.max(2, d)
  const columnOf = (slot: number) => {
    const { vector, segment } = entries[Math.floor(slot / slots)]
    const column = vector * d + (slot % slots)
    const isThere = slot % slots < d && column >= segment.start && column < segment.end
    return isThere ? (permutation ? permutation[column] : column) : -1
  }
  const factorOf = (vector: number) => trellis.factors[vector]
  const length = entries.length * slots
  const arrays = {
    codes,
    ...tablesOf(segments, entries, tails, slots, trellis.widths.length),
    order: Int32Array.from({ length }, (_, slot) => columnOf(slot)),
    factors: Float32Array.from({ length }, (_, slot) => factorOf(entries[Math.floor(slot / slots)].vector)),
    columnFactors: Float32Array.from({ length: Math.ceil(cols / d) * d }, (_, j) =>
      factorOf(Math.floor(j / d)),
    ),
    ...levelsOf(rows, cols, rowsPerGroup, values.blocks),
  }
  return {
    arrays,
    entries: storedPlaces(trellis.widths, entries),
    regionBytes: regionBytes(heightOf(Math.min(rowsPerGroup, rows))),
  }
}

function levelsOf(
  rows: number,
  cols: number,
  rowsPerGroup: number,
  blocks: BlockLevels | undefined,
): Pick<TrellisArrays, 'levelCodes' | 'levelPairs'> {
  if (!blocks) return { levelCodes: new Uint8Array(0), levelPairs: new Float32Array(0) }
  const { size, codes, levels } = blocks
  const perRow = Math.ceil(cols / size)
  const rowBytes = packedRowBytes(perRow, 4)
  const groups = Math.ceil(rows / rowsPerGroup)
  const full = heightOf(Math.min(rowsPerGroup, rows))
  const last = heightOf(rows - (groups - 1) * rowsPerGroup)
  const levelCodes = new Uint8Array((((groups - 1) * full + last) * perRow) / 2)
  for (let row = 0; row < rows; row++) {
    const group = Math.floor(row / rowsPerGroup)
    const below = row - group * rowsPerGroup
    const height = group === groups - 1 ? last : full
    for (let block = 0; block < perRow; block++) {
      const code = (codes[row * rowBytes + (block >> 1)] >> (4 * (block & 1))) & 15
      levelCodes[(group * full * perRow + block * height + below) >> 1] |= code << (4 * (below & 1))
    }
  }
  return { levelCodes, levelPairs: pairsOf(levels) }
}

const heightOf = (rows: number) => TILE_ROWS * Math.ceil(rows / TILE_ROWS)

/** The vectors of a segment, narrow codes first. One that reaches into the next has an entry there too. */
function entriesOf(segment: Segment, d: number, { widths }: TrellisColumns): Entry[] {
  const first = Math.floor(segment.start / d)
  const count = Math.ceil(segment.end / d) - first
  return Array.from({ length: count }, (_, i) => first + i)
    .map((vector) => ({ vector, segment, width: widths[vector] }))
    .sort((a, b) => a.width - b.width || a.vector - b.vector)
}

function tablesOf(
  segments: readonly Segment[],
  entries: readonly Entry[],
  tails: readonly number[],
  slots: number,
  vectors: number,
): Pick<TrellisArrays, 'places' | 'stretches' | 'runs'> {
  const places = new Int32Array(3 * vectors)
  const stretches: number[] = []
  const runs: number[] = []
  let [widthsBefore, tailsBefore, entry] = [0, 0, 0]
  for (const segment of segments) {
    const start = [entry * slots, runs.length / 2, widthsBefore, tailsBefore]
    for (let before = 0; entries[entry]?.segment === segment; entry++) {
      const { vector, width } = entries[entry]
      places.set([width, widthsBefore, tailsBefore], 3 * vector)
      if (width !== before) runs.push(width, 0)
      runs[runs.length - 1]++
      before = width
      widthsBefore += width
      tailsBefore += tails[entry]
    }
    stretches.push(start[0], entry * slots, start[1], runs.length / 2, start[2], start[3])
  }
  return { places, stretches: Int32Array.from(stretches), runs: Int32Array.from(runs) }
}

function storedPlaces(widths: Uint8Array, entries: readonly Entry[]): Int32Array {
  const bits = new Int32Array(widths.length)
  for (let vector = 1; vector < widths.length; vector++) bits[vector] = bits[vector - 1] + widths[vector - 1]
  return Int32Array.from(entries.flatMap(({ vector, width }) => [bits[vector], width]))
}
