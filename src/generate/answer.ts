import { AbortedError, throwIfAborted } from '../common/errors.js'
import { randomGenerator } from '../common/random.js'
import type { Tokenizer } from '../model/tokenizer.js'
import type { Scheduler } from './batch/scheduler.js'
import type { SequenceTask } from './batch/sequence.js'
import { createQueue } from './batch/token-queue.js'
import type { Choice } from './choose-token.js'
import type { ResolvedOptions } from './generate-options.js'
import { createStopWatch } from './stop-strings.js'
import { createTextStream } from './text-stream.js'

/** Why an answer ends: the model ended it, a stop string came, or there was room for no more tokens. */
export type FinishReason = 'end' | 'stop' | 'length'

/** One token of an answer. */
export interface GeneratedToken {
  /**
   * What the answer goes on with; empty while a character or what may be a stop string is incomplete. All texts together
   * are the answer.
   */
  readonly text: string
  /** Its id. The last one may be a token that ends the answer and has no text. */
  readonly token: number
  /** Natural logarithm of the probability that the model gives it, before temperature, penalty and filters. */
  readonly logprob: number
  /** The likeliest tokens with theirs, the likeliest first; where `topLogprobs` asks for them. */
  readonly topLogprobs?: readonly TokenLogprob[]
  /** With the last token only. */
  readonly finishReason?: FinishReason
}

/** A token and how likely it is. */
export interface TokenLogprob {
  /** Its id. */
  readonly token: number
  /**
   * It decoded alone: tokenizers may drop a space that it begins with, and a part of a character is U+FFFD. Its bytes as
   * they are: `tokenizer.bytesOf(token)` of the generator.
   */
  readonly text: string
  /** Natural logarithm of its probability. */
  readonly logprob: number
}

/** What an answer follows, and how it is written. */
export interface AnswerTask extends ResolvedOptions {
  readonly prompt: readonly number[]
  /** Tokens of prompt and answer at most. */
  readonly most: number
  /** Tokens that the first text is decoded after; none where the answer begins a text of its own. */
  readonly before: readonly number[]
  readonly endTokens: ReadonlySet<number>
}

/** Writes an answer; the work begins with the first token that is asked for. */
export async function* writeAnswer(
  scheduler: Scheduler,
  tokenizer: Tokenizer,
  task: AnswerTask,
  signal: AbortSignal | undefined,
): AsyncGenerator<GeneratedToken, void> {
  throwIfAborted(signal)
  const queue = createQueue<GeneratedToken>()
  const itemOf = createItems(tokenizer, task)
  const sequence: SequenceTask = {
    tokens: [...task.prompt],
    most: task.most,
    sampling: task.sampling,
    random: randomGenerator(task.seed),
    onToken(choice) {
      const item = itemOf(choice, sequence.tokens.length >= task.most)
      queue.push(item)
      return item.finishReason !== undefined
    },
    onEnd: queue.end,
  }
  const stop = scheduler.submit(sequence)
  const onAbort = () => {
    stop()
    queue.end(new AbortedError('stopped by the caller before the text was complete'))
  }
  signal?.addEventListener('abort', onAbort)
  try {
    for (;;) {
      const item = await queue.next()
      if (item === undefined) return
      yield item
    }
  } finally {
    signal?.removeEventListener('abort', onAbort)
    stop()
  }
}

/** Makes items of tokens; the text of the last one is complete. */
function createItems(
  tokenizer: Tokenizer,
  { before, stops, endTokens }: AnswerTask,
): (choice: Choice, isLast: boolean) => GeneratedToken {
  const stream = createTextStream(tokenizer, before)
  const watch = createStopWatch(stops)
  return ({ token, logprob, top }, isLast) => {
    const ends = endTokens.has(token)
    const check = watch.push(ends ? stream.end() : stream.push(token) + (isLast ? stream.end() : ''))
    const text = check.text + (check.stopped || !(ends || isLast) ? '' : watch.end())
    const finishReason = check.stopped ? 'stop' : ends ? 'end' : isLast ? 'length' : undefined
    const topLogprobs = top.map((each) => ({ ...each, text: tokenizer.decode(Int32Array.of(each.token)) }))
    return {
      text,
      token,
      logprob,
      ...(topLogprobs.length > 0 && { topLogprobs }),
      ...(finishReason && { finishReason }),
    }
  }
}
