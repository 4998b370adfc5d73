import type { PackedSource, Segment } from '../../packed-contract.js'

/** Columns whose codes are in 16 bytes. */
const AT_ONCE = 64
/** Slots per column at most: those without a column are work for nothing. */
const MOST_SLOTS = 1.25

/** How `assembly/packed/nibble-product.ts` multiplies pairs with codes of 4 bits. */
export interface NibbleSlots {
  /** The column of X of each slot, -1 for none. */
  readonly order: Int32Array
  /** Start and end of each segment's slots, and nothing else: as large as those of a trellis. */
  readonly stretches: Int32Array
  /** Of each codebook its 16 first elements, then the second ones. */
  readonly elements: Int8Array
  /** What two codes of levels in a byte stand for; empty without levels. */
  readonly levelPairs: Float32Array
}

/**
 * Slots for a weight that {@link NibbleSlots} can multiply, else undefined: int8 pairs by codes of 4 bits, whose segments start on
 * bytes, are hardly ever less than 64 columns, and have a block of levels each, where there are any.
 */
export function nibbleSlots(source: PackedSource, segments: readonly Segment[]): NibbleSlots | undefined {
  const { codeBits, values, permutation } = source
  if (values.kind === 'grid' || values.trellis || values.vectorDim !== 2 || codeBits !== 4) return undefined
  const { elements, blocks } = values
  if (!(elements instanceof Int8Array) || segments.some(({ start }) => start % 4 !== 0)) return undefined
  if (blocks && segments.some(({ block }, i) => block !== i)) return undefined
  const counts = segments.map(({ start, end }) => AT_ONCE * Math.ceil((end - start) / AT_ONCE))
  const slots = counts.reduce((sum, count) => sum + count, 0)
  if (slots > MOST_SLOTS * source.cols + AT_ONCE) return undefined
  const order = new Int32Array(slots).fill(-1)
  const stretches = new Int32Array(6 * segments.length)
  let first = 0
  for (const [i, { start, end }] of segments.entries()) {
    for (let column = start; column < end; column++) {
      order[first + slotOf(column - start)] = permutation ? permutation[column] : column
    }
    stretches.set([first, first + counts[i]], 6 * i)
    first += counts[i]
  }
  return { order, stretches, elements: apart(elements), levelPairs: pairsOf(blocks?.levels) }
}

/** Of 64 columns: first elements of even pairs, second ones, then those of odd pairs. */
function slotOf(column: number): number {
  const within = column % AT_ONCE
  const pair = within >> 1
  return column - within + 32 * (pair & 1) + 16 * (within & 1) + (pair >> 1)
}

function apart(elements: Int8Array): Int8Array {
  return elements.map((_, i) => elements[(i & ~31) + 2 * (i & 15) + ((i >> 4) & 1)])
}

/** The two levels of each byte of codes. */
export function pairsOf(levels: Float32Array | undefined): Float32Array {
  if (levels === undefined) return new Float32Array(0)
  return Float32Array.from({ length: 512 }, (_, i) => levels[((i >> 1) >> (4 * (i & 1))) & 15])
}
