import { UnsupportedError } from '../../common/errors.js'
import type { Decoder } from '../../model/passes/cached-decoder.js'
import { rotaryEra } from '../rotary-era.js'
import type { CacheStore } from './cache-store.js'
import type { Roster, Sequence, Share } from './sequence.js'
import { sharedLength } from './sequence-cache.js'

/** A sequence whose beginning another one is about to compute waits for it, where they share so many tokens. */
const WORTH_WAITING = 16

/**
 * Shares the next pass out: a token for each sequence that writes, and up to `promptTokens` of the prompts of others,
 * in equal parts.
 */
export function planPass(decoder: Decoder, store: CacheStore, roster: Roster, promptTokens: number): Share[] {
  const wanted = roster.active().filter((sequence) => !waitsForAnother(sequence, roster.active()))
  const missing = new Map(wanted.map((sequence) => [sequence, openCache(decoder, store, sequence)]))
  const writing = wanted.filter((sequence) => missing.get(sequence) === 1)
  const reading = wanted.filter((sequence) => missing.get(sequence)! > 1)
  reading.sort((a, b) => missing.get(a)! - missing.get(b)!)
  const shares: Share[] = []
  const plan = (sequence: Sequence, count: number): number => {
    try {
      if (!reserve(store, roster, sequence, count)) return 0
      shares.push(shareOf(decoder, sequence, count))
      return count
    } catch (error) {
      roster.end(sequence, false, error)
      return 0
    }
  }
  for (const sequence of writing) plan(sequence, 1)
  let left = promptTokens
  for (const [i, sequence] of reading.entries()) {
    const fair = Math.ceil(left / (reading.length - i))
    if (fair > 0) left -= plan(sequence, Math.min(fair, missing.get(sequence)!))
  }
  // those that made way for others have no cache any more
  return shares.filter(({ sequence, cache }) => sequence.cache === cache)
}

/** Whether an older sequence is about to compute what this one begins with. */
function waitsForAnother(sequence: Sequence, active: readonly Sequence[]): boolean {
  if (sequence.cache !== undefined) return false
  for (const other of active) {
    if (other === sequence) return false
    const shared = sharedLength(other.task.tokens, sequence.task.tokens)
    const computed = other.cache?.tokens.length ?? 0
    if (shared >= WORTH_WAITING && computed < Math.min(shared, sequence.task.tokens.length - 1)) return true
  }
  return false
}

/** Opens the cache that a sequence needs now. @returns how many of its tokens are not in it yet */
function openCache({ config }: Decoder, store: CacheStore, sequence: Sequence): number {
  const { tokens } = sequence.task
  const { era } = rotaryEra(config, tokens.length)
  if (sequence.cache !== undefined && sequence.cache.era !== era) {
    store.keep(sequence.cache)
    sequence.cache = undefined
  }
  sequence.cache ??= store.open(tokens, era)
  return tokens.length - sequence.cache.tokens.length
}

/** Makes room for the next tokens of a sequence, if need be by having the youngest ones make way. */
function reserve(store: CacheStore, roster: Roster, sequence: Sequence, count: number): boolean {
  while (sequence.cache !== undefined) {
    const positions = sequence.cache.tokens.length + count
    if (store.makeRoom(sequence.cache, positions, sequence.task.most)) return true
    if (roster.active().length === 1) {
      throw new UnsupportedError(
        `the caches of keys and values have no room for ${positions} tokens (option cacheBytes); ` +
          'allow more bytes, or use shorter prompts and answers',
      )
    }
    roster.retreat()
  }
  return false
}

function shareOf({ config }: Decoder, sequence: Sequence, count: number): Share {
  const { tokens } = sequence.task
  const cache = sequence.cache!
  const first = cache.tokens.length
  const { span } = rotaryEra(config, tokens.length)
  const next = Int32Array.from(tokens.slice(first, first + count))
  return { sequence, cache, tokens: next, span, predicts: first + count === tokens.length }
}
