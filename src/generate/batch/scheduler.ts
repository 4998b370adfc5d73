import { AbortedError } from '../../common/errors.js'
import type { CachePrecision } from '../../model/ops/ops.js'
import type { Decoder } from '../../model/passes/cached-decoder.js'
import { createCacheStore } from './cache-store.js'
import { planPass } from './plan-pass.js'
import { runPass } from './run-pass.js'
import type { Roster, Sequence, SequenceTask } from './sequence.js'

/** How much is computed at once. */
export interface SchedulerLimits {
  /** Sequences that are computed together. */
  readonly sequences: number
  /** Tokens of prompts in one pass. */
  readonly promptTokens: number
  /** Bytes of cached keys and values. */
  readonly cacheBytes: number
  /** How finely these are held; default `'float32'`. */
  readonly cache?: CachePrecision
}

/** What a scheduler is busy with. */
export interface SchedulerLoad {
  /** Sequences that are being computed. */
  readonly active: number
  /** Sequences that wait for others to end. */
  readonly waiting: number
  /** Bytes of cached keys and values, those kept for prompts to come included. */
  readonly cacheBytes: number
}

/** Computes sequences together, each from its own prompt on. */
export interface Scheduler {
  /** Begins to write. @returns what stops it; `onEnd` is not called then */
  submit(task: SequenceTask): () => void
  load(): SchedulerLoad
  /** Ends all sequences with an AbortedError, and frees all caches. */
  close(): Promise<void>
}

/** A scheduler over a decoder, which has to outlive it. */
export function createScheduler(decoder: Decoder, limits: SchedulerLimits): Scheduler {
  const store = createCacheStore(decoder, limits.cacheBytes, limits.cache)
  let active: Sequence[] = []
  const waiting: Sequence[] = []
  let running: Promise<void> | undefined
  let closed = false
  // whether one had to make way: no other begins before one has ended
  let crowded = false

  const giveBack = (sequence: Sequence, keeps: boolean) => {
    if (sequence.cache === undefined) return
    if (keeps) store.keep(sequence.cache)
    else store.drop(sequence.cache)
    sequence.cache = undefined
  }
  const roster: Roster = {
    active: () => active,
    retreat() {
      const youngest = active.pop()!
      waiting.unshift(youngest)
      giveBack(youngest, false)
      crowded = true
    },
    end(sequence, keeps, error) {
      giveBack(sequence, keeps)
      if (sequence.ended) return
      sequence.ended = true
      sequence.task.onEnd(error)
    },
  }
  const admit = () => {
    for (const sequence of active) if (sequence.ended) giveBack(sequence, true)
    const going = active.filter(({ ended }) => !ended)
    if (going.length < active.length || going.length === 0) crowded = false
    active = going
    while (!crowded && waiting.length > 0 && active.length < limits.sequences) {
      const next = waiting.shift()!
      if (!next.ended) active.push(next)
    }
  }
  const run = async () => {
    for (admit(); active.length > 0; admit()) {
      const shares = planPass(decoder, store, roster, limits.promptTokens)
      if (shares.length > 0) await runPass(decoder, shares, roster)
    }
  }
  const endAll = (error: unknown) => {
    for (const sequence of [...active, ...waiting]) roster.end(sequence, false, error)
  }
  const start = () => {
    running ??= run()
      .catch(endAll)
      .finally(() => {
        running = undefined
        if (waiting.length > 0) start()
      })
  }
  const closedError = () => new AbortedError('the generator was closed before the text was complete')
  return {
    submit(task) {
      const sequence: Sequence = { task, seen: new Set(task.tokens), cache: undefined, ended: false }
      if (closed) roster.end(sequence, false, closedError())
      else {
        waiting.push(sequence)
        start()
      }
      return () => {
        sequence.ended = true
      }
    },
    load: () => ({
      active: active.filter(({ ended }) => !ended).length,
      waiting: waiting.filter(({ ended }) => !ended).length,
      cacheBytes: store.usage().bytes,
    }),
    async close() {
      closed = true
      for (const { task, ended } of [...active, ...waiting]) if (!ended) task.onEnd(closedError())
      for (const sequence of [...active, ...waiting]) sequence.ended = true
      while (running !== undefined) await running
      store.clear()
    },
  }
}
