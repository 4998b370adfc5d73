/**
 * Consecutive batches whose sums are made apart and then added to those of the chunks before: what another machine takes
 * at a time. How batches are cut depends on their number alone, so that the bytes depend neither on who sums nor on
 * memory.
 */
export interface Chunk {
  readonly first: number
  /** The batch behind it. */
  readonly last: number
  /** Which half of the tokens all of it belongs to; undefined: its sequences in turn belong to both. */
  readonly half: 0 | 1 | undefined
}

/** Sums of a layer's inputs are as large as its Hessian, however few tokens they are of. */
const FEWEST_BATCHES = 2
const MOST_CHUNKS = 16
/** With fewer chunks the two halves of the tokens would be of unequal size. */
const FEWEST_CHUNKS_IN_HALVES = 4

/** The chunks of so many batches. */
export function chunksOf(batches: number): Chunk[] {
  const size = Math.max(FEWEST_BATCHES, Math.ceil(batches / MOST_CHUNKS))
  const count = Math.ceil(batches / size)
  return Array.from({ length: count }, (_, i) => ({
    first: i * size,
    last: Math.min(batches, (i + 1) * size),
    half: count < FEWEST_CHUNKS_IN_HALVES ? undefined : i % 2 === 0 ? 0 : 1,
  }))
}

/** Consecutive rows of a batch, and which half of the tokens they are in. */
export interface Run {
  readonly from: number
  readonly to: number
  readonly half: 0 | 1
}

/**
 * How the rows of a batch fall to the halves of the tokens.
 *
 * @param sequence the first of the batch, counted over all batches
 * @param isOnly whether there is no other sequence: then it is cut in the middle
 */
export function runsOf(
  { half }: Pick<Chunk, 'half'>,
  { sequence, length, isOnly }: { sequence: number; length: number; isOnly: boolean },
  rows: number,
): Run[] {
  if (half !== undefined) return [{ from: 0, to: rows, half }]
  const run = isOnly ? Math.ceil(length / 2) : length
  return Array.from({ length: Math.ceil(rows / run) }, (_, i) => ({
    from: i * run,
    to: Math.min(rows, (i + 1) * run),
    half: (sequence + i) % 2 === 0 ? 0 : 1,
  }))
}
