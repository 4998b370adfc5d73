import type { CachePrecision } from '../../model/ops/ops.js'
import { cacheBytes, type Decoder } from '../../model/passes/cached-decoder.js'
import {
  capacityOf,
  closeSequenceCache,
  copyPrefix,
  emptyCache,
  growCache,
  grownCapacity,
  type SequenceCache,
  sharedLength,
} from './sequence-cache.js'

/** The caches of all sequences within a budget of bytes; those of finished sequences stay until room is needed. */
export interface CacheStore {
  /**
   * A cache for a sequence that begins with `tokens`, holding as many of them as another cache of the same era has, but
   * never the last, whose logits are still wanted.
   */
  open(tokens: readonly number[], era: number): SequenceCache
  /**
   * Makes room for `positions`.
   *
   * @param most positions that the sequence will have at most
   * @returns false when that does not fit beside the caches that are in use
   */
  makeRoom(cache: SequenceCache, positions: number, most: number): boolean
  /** Keeps a cache whose sequence is done, for others that begin alike. */
  keep(cache: SequenceCache): void
  /** Frees a cache. */
  drop(cache: SequenceCache): void
  /** Frees all that is not in use. */
  clear(): void
  /** Bytes that caches take, and those of them whose sequences are done. */
  usage(): { readonly bytes: number; readonly idleBytes: number }
}

/** An empty store. */
export function createCacheStore(
  decoder: Decoder,
  budget: number,
  precision: CachePrecision = 'float32',
): CacheStore {
  const busy = new Set<SequenceCache>()
  // in the order of their last use
  const idle = new Set<SequenceCache>()
  const bytesFor = (capacity: number) => cacheBytes(decoder.config, capacity, precision)
  const bytesIn = (caches: Iterable<SequenceCache>) => {
    let bytes = 0
    for (const cache of caches) bytes += bytesFor(capacityOf(cache))
    return bytes
  }
  const evictFor = (bytes: number, spared?: SequenceCache): boolean => {
    for (const cache of idle) {
      if (bytesIn(busy) + bytesIn(idle) + bytes <= budget) return true
      if (cache === spared) continue
      idle.delete(cache)
      closeSequenceCache(cache)
    }
    return bytesIn(busy) + bytesIn(idle) + bytes <= budget
  }
  const taken = (cache: SequenceCache) => {
    idle.delete(cache)
    busy.add(cache)
    return cache
  }
  return {
    open(tokens, era) {
      const found = longestShared([...busy, ...idle], tokens, era)
      if (found === undefined) return taken(emptyCache(era))
      const { cache, shared } = found
      if (idle.has(cache) && shared === cache.tokens.length) return taken(cache)
      const capacity = grownCapacity(emptyCache(era), shared + 1, Number.POSITIVE_INFINITY)
      if (!evictFor(bytesFor(capacity), cache)) return taken(emptyCache(era))
      return taken(copyPrefix(cache, shared, capacity))
    },
    makeRoom(cache, positions, most) {
      if (positions <= capacityOf(cache)) return true
      const capacities = [grownCapacity(cache, positions, most), positions]
      for (const capacity of capacities) {
        if (!evictFor(bytesFor(capacity) - bytesFor(capacityOf(cache)))) continue
        growCache(decoder, cache, capacity, precision)
        return true
      }
      return false
    },
    keep(cache) {
      busy.delete(cache)
      if (cache.tokens.length > 0) idle.add(cache)
      else closeSequenceCache(cache)
    },
    drop(cache) {
      busy.delete(cache)
      idle.delete(cache)
      closeSequenceCache(cache)
    },
    clear() {
      for (const cache of idle) closeSequenceCache(cache)
      idle.clear()
    },
    usage: () => ({ bytes: bytesIn(busy) + bytesIn(idle), idleBytes: bytesIn(idle) }),
  }
}

function longestShared(
  caches: readonly SequenceCache[],
  tokens: readonly number[],
  era: number,
): { cache: SequenceCache; shared: number } | undefined {
  let best: { cache: SequenceCache; shared: number } | undefined
  for (const cache of caches) {
    if (cache.era !== era) continue
    const shared = Math.min(sharedLength(cache.tokens, tokens), tokens.length - 1)
    if (shared > (best?.shared ?? 0)) best = { cache, shared }
  }
  return best
}
