import { OptionError, TextError, throwIfAborted } from '../../common/errors.js'
import { forwardKernels } from '../../kernels/forward-kernels.js'
import {
  cacheBytes,
  closeCaches,
  type Decoder,
  decodeSteps,
  disposeDecoder,
  loadDecoder,
  openCaches,
} from '../../model/passes/cached-decoder.js'
import { cutText } from '../calibrate/first-token.js'
import type { ScoredModel } from './evaluation.js'

/** How long two models write the same. */
export interface Continuations {
  /** Continuations of each model. */
  readonly count: number
  /** Tokens of the text that each goes on from. */
  readonly promptTokens: number
  /** Tokens of each at most. */
  readonly mostTokens: number
  /** Mean of the tokens until the two models part; one that never parts counts with `mostTokens`. */
  readonly mean: number
  /** Median of the same. */
  readonly median: number
  /** Share of those that never part. */
  readonly same: number
}

/** What to go on from, and how far. */
export interface ContinuationOptions {
  /** Of one vocabulary. */
  readonly reference: ScoredModel
  readonly model: ScoredModel
  /** Token ids of one length. */
  readonly prompts: readonly Int32Array[]
  /** Tokens to write. */
  readonly tokens: number
  /** Receives the share that is done. */
  readonly onProgress?: (done: number) => void
  readonly signal?: AbortSignal | undefined
}

/** Tokens of a prompt and of what is written after it, where the model's context allows. */
const promptTokens = 64
const writtenTokens = 128

/** Bytes of cached keys and values at once; more sequences than fit are written in turns. */
const heldCacheBytes = 2 ** 29

/**
 * Cuts prompts out of a text, evenly spread over it.
 *
 * @param context tokens of a prompt and its continuation at most
 * @param firstToken what each prompt begins with, in the place of one token of the text
 * @throws OptionError for an impossible count, TextError when the text is too short for it
 */
export function cutPrompts(
  source: Int32Array,
  count: number,
  context: number,
  firstToken?: number,
): { prompts: Int32Array[]; tokens: number } {
  if (!Number.isSafeInteger(count) || count < 1) {
    throw new OptionError('continuations', `found ${count}; expected a positive whole number`)
  }
  const length = Math.min(promptTokens, Math.floor(context / 3))
  if (length < 1) throw new OptionError('context', `found ${context}; continuations need at least 3 tokens`)
  const tokens = Math.min(writtenTokens, context - length)
  const { text, step: ofText, runAt } = cutText(source, length, firstToken)
  if (text.length < count * ofText) {
    throw new TextError(
      `the text has ${text.length} tokens; ${count} prompts of ${ofText} need ${count * ofText}. Use a longer text, or ` +
        'fewer continuations',
    )
  }
  const step = Math.floor(text.length / count)
  const prompts = Array.from({ length: count }, (_, i) => runAt(i * step))
  return { prompts, tokens }
}

/**
 * Has both models go on from prompts, always with the likeliest token, and counts the tokens until they part. The
 * candidate is shown what the reference wrote: up to where its likeliest token is another, it would have written the
 * same.
 *
 * @throws NumericError when an activation is not finite; AbortedError
 */
export async function compareContinuations(options: ContinuationOptions): Promise<Continuations> {
  const { reference, model, prompts, tokens, onProgress, signal } = options
  const total = 2 * prompts.length * tokens
  let done = 0
  const advance = (steps: number) => {
    throwIfAborted(signal)
    done += steps
    onProgress?.(done / total)
  }
  const written = await write(reference, prompts, tokens, advance)
  const parted = await follow(model, prompts, written, advance)
  return summary(parted, prompts[0].length, tokens)
}

function summary(parted: readonly number[], promptTokens: number, mostTokens: number): Continuations {
  const sorted = [...parted].sort((a, b) => a - b)
  const middle = (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.floor(sorted.length / 2)]) / 2
  return {
    count: parted.length,
    promptTokens,
    mostTokens,
    mean: parted.reduce((sum, each) => sum + each, 0) / parted.length,
    median: middle,
    same: parted.filter((each) => each === mostTokens).length / parted.length,
  }
}

/** The likeliest continuation of each prompt. */
function write(
  model: ScoredModel,
  prompts: readonly Int32Array[],
  tokens: number,
  advance: (steps: number) => void,
): Promise<Int32Array[]> {
  return inTurns(model, prompts, tokens, async (part, likeliest) => {
    const written = part.map(() => new Int32Array(tokens))
    let next = await likeliest(part)
    for (let at = 0; at < tokens; at++) {
      for (const [i, own] of written.entries()) own[at] = next[i]
      advance(part.length)
      if (at + 1 < tokens) next = await likeliest(Array.from(next, (token) => Int32Array.of(token)))
    }
    return written
  })
}

/** How many tokens of each continuation are the likeliest for a model too, before the first that is not. */
function follow(
  model: ScoredModel,
  prompts: readonly Int32Array[],
  written: readonly Int32Array[],
  advance: (steps: number) => void,
): Promise<number[]> {
  const tokens = written[0].length
  return inTurns(model, prompts, tokens, async (part, likeliest, first) => {
    const parted = part.map(() => tokens)
    let next = await likeliest(part)
    for (let at = 0; at < tokens; at++) {
      const shown = part.map((_, i) => written[first + i].subarray(at, at + 1))
      for (const [i, [token]] of shown.entries()) {
        if (next[i] !== token) parted[i] = Math.min(parted[i], at)
      }
      advance(part.length)
      if (at + 1 < tokens) next = await likeliest(shown)
    }
    return parted
  })
}

/** The caches of each prompt, and the length that rotary settings take its sequence to have. */
interface Written {
  readonly caches: ReturnType<typeof openCaches>
  readonly span: number
}

/** Runs `use` over as many prompts at once as their caches fit into memory. */
async function inTurns<T>(
  { source, config }: ScoredModel,
  prompts: readonly Int32Array[],
  tokens: number,
  use: (part: readonly Int32Array[], likeliest: Likeliest, first: number) => Promise<T[]>,
): Promise<T[]> {
  const span = prompts[0].length + tokens
  const size = Math.max(1, Math.floor(heldCacheBytes / cacheBytes(config, span)))
  const results: T[] = []
  const decoder = await loadDecoder(source, config, { keepsExperts: true })
  const open: Written[] = []
  const close = () => {
    for (const { caches } of open.splice(0)) closeCaches(caches)
  }
  try {
    for (let first = 0; first < prompts.length; first += size) {
      const part = prompts.slice(first, first + size)
      for (const _ of part) open.push({ caches: openCaches(decoder, 1, span), span })
      results.push(...(await use(part, likeliestAfter(decoder, open), first)))
      close()
    }
  } finally {
    close()
    disposeDecoder(decoder)
  }
  return results
}

/** Runs the next tokens of each sequence, and gives the likeliest that follows its last one. */
type Likeliest = (tokens: readonly Int32Array[]) => Promise<Int32Array>

function likeliestAfter(decoder: Decoder, written: readonly Written[]): Likeliest {
  const { vocabSize } = decoder.config
  const { allocate, release, predict } = forwardKernels()
  return async (tokens) => {
    const logits = allocate(written.length * vocabSize)
    try {
      const steps = written.map((one, i) => ({ ...one, tokens: tokens[i], predicts: true }))
      await decodeSteps(decoder, steps, logits)
      return predict(written.length, vocabSize, logits).tops
    } finally {
      release(logits)
    }
  }
}
