import type { CachePrecision, KeyValueCache } from '../../model/ops/ops.js'
import { runningOps } from '../../model/ops/running.js'
import { closeCaches, type Decoder, openCaches } from '../../model/passes/cached-decoder.js'

/** Positions that a cache grows by at least. */
export const BLOCK_POSITIONS = 64

/** Keys and values of one sequence in all blocks of a model. */
export interface SequenceCache {
  caches: readonly KeyValueCache[]
  /** The tokens whose keys and values it holds, from position 0 on. */
  tokens: number[]
  /** See `rotaryEra`. */
  readonly era: number
}

/** An empty cache with room for no token yet. */
export function emptyCache(era: number): SequenceCache {
  return { caches: [], tokens: [], era }
}

/** Positions there is room for. */
export function capacityOf({ caches }: SequenceCache): number {
  return caches[0]?.capacity ?? 0
}

/** The capacity that a cache should grow to for `positions`, of which there will be `most` at most. */
export function grownCapacity(cache: SequenceCache, positions: number, most: number): number {
  const wanted = Math.max(positions, 1.25 * capacityOf(cache))
  return Math.max(positions, Math.min(most, BLOCK_POSITIONS * Math.ceil(wanted / BLOCK_POSITIONS)))
}

/** Makes room for more positions, block by block of the model, so that one of them is there twice at a time. */
export function growCache(
  decoder: Decoder,
  cache: SequenceCache,
  capacity: number,
  precision: CachePrecision,
): void {
  if (cache.caches.length === 0) {
    cache.caches = openCaches(decoder, 1, capacity, precision)
    return
  }
  const held = [...cache.caches]
  cache.caches = held
  for (const [index, old] of held.entries()) {
    held[index] = runningOps().copyCache(old, cache.tokens.length, capacity)
    runningOps().closeCache(old)
  }
}

/** Another cache with the first `positions` of this one. */
export function copyPrefix(cache: SequenceCache, positions: number, capacity: number): SequenceCache {
  const copies: KeyValueCache[] = []
  try {
    for (const own of cache.caches) copies.push(runningOps().copyCache(own, positions, capacity))
  } catch (error) {
    closeCaches(copies)
    throw error
  }
  return { caches: copies, tokens: cache.tokens.slice(0, positions), era: cache.era }
}

/** Frees a cache's memory; it is empty afterwards. */
export function closeSequenceCache(cache: SequenceCache): void {
  closeCaches(cache.caches)
  cache.caches = []
  cache.tokens = []
}

/** How many tokens two sequences begin with alike. */
export function sharedLength(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const most = Math.min(a.length, b.length)
  let shared = 0
  while (shared < most && a[shared] === b[shared]) shared++
  return shared
}
