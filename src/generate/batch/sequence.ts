import type { Random } from '../../common/random.js'
import type { Choice, Sampling } from '../choose-token.js'
import type { SequenceCache } from './sequence-cache.js'

/** What is to be written after some tokens. */
export interface SequenceTask {
  /** At least one; those that are chosen are added. */
  readonly tokens: number[]
  /** Tokens at most, those given included. */
  readonly most: number
  readonly sampling: Sampling
  readonly random: Random
  /** Is given each token; whether it was the last one. */
  onToken(choice: Choice): boolean
  /** Is called once when no further token comes; with the error that ended it. */
  onEnd(error?: unknown): void
}

/** A task that is being computed. */
export interface Sequence {
  readonly task: SequenceTask
  /** The tokens that are in it. */
  readonly seen: Set<number>
  cache: SequenceCache | undefined
  ended: boolean
}

/** What a sequence has computed in the next pass. */
export interface Share {
  readonly sequence: Sequence
  readonly cache: SequenceCache
  readonly tokens: Int32Array
  readonly span: number
  readonly predicts: boolean
}

/** The sequences that are computed together. */
export interface Roster {
  /** In the order they were submitted in. */
  active(): readonly Sequence[]
  /** Has the youngest sequence give its cache back and wait. */
  retreat(): void
  /** Ends a sequence, with the error that ended it; its cache may serve others where it `keeps`. */
  end(sequence: Sequence, keeps: boolean, error?: unknown): void
}
