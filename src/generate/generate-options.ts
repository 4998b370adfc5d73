import {
  isWithin,
  type OptionNames,
  refuseUnknown,
  requireShare,
  requireWhole,
} from '../common/check-option.js'
import { OptionError, TextError } from '../common/errors.js'
import { shownValue } from '../common/shown-value.js'
import type { ChatMessage } from './chat-template.js'
import type { Sampling } from './choose-token.js'
import type { SamplingDefaults } from './model-settings.js'

/** What to write on. */
export interface PromptOptions {
  /** Text to go on with, or its token ids; the tokens that the model's tokenizer begins texts with come in front of text. */
  readonly prompt?: string | ArrayLike<number>
  /** A chat to answer, in place of a prompt; needs a model with a chat template. */
  readonly messages?: readonly ChatMessage[]
}

/** What to write on, and how. Defaults of the sampling are those of the model's `generation_config.json`, else as stated. */
export interface GenerateOptions extends PromptOptions {
  /**
   * Whether the answer to a prompt is a text of its own, as those to `messages` are, whose first space a tokenizer may
   * drop; default false: it goes on with the prompt.
   */
  readonly separate?: boolean
  /** Tokens to write at most; default: as many as the context has room for. */
  readonly maxTokens?: number
  /** Logits are divided by it; 0 always takes the likeliest token. Default 1: the model's own distribution. */
  readonly temperature?: number
  /** Draws from so many of the likeliest tokens; default 0: all. */
  readonly topK?: number
  /** Draws from the fewest likeliest tokens whose probabilities sum to it, 0 (only the likeliest) to 1; default 1: all. */
  readonly topP?: number
  /** Draws from tokens that are at least this share as likely as the likeliest, 0 to 1; default 0: all. */
  readonly minP?: number
  /**
   * Logits of tokens that are in the prompt or were written are divided by it where they are above 0, and multiplied by
   * it elsewhere; above 0, default 1: none.
   */
  readonly repetitionPenalty?: number
  /** The answer ends in front of the first of these that it would hold; default none. */
  readonly stop?: string | readonly string[]
  /** The same seed gives the same answer (to rounding, see the guide); default: another one each time. */
  readonly seed?: number
  /** Tells the log-probabilities of so many of the likeliest tokens too, 20 at most; default 0. */
  readonly topLogprobs?: number
  /** Stops the work with an AbortedError. */
  readonly signal?: AbortSignal
}

const optionNames: OptionNames<GenerateOptions> = {
  prompt: true,
  messages: true,
  separate: 'switch',
  maxTokens: true,
  temperature: true,
  topK: true,
  topP: true,
  minP: true,
  repetitionPenalty: true,
  stop: true,
  seed: true,
  topLogprobs: true,
  signal: true,
}

/** Options as they are used. */
export interface ResolvedOptions {
  readonly sampling: Sampling
  readonly stops: readonly string[]
  readonly seed: number
}

const MOST_TOP_LOGPROBS = 20
const MOST_STOPS = 64

/** Checks options and fills defaults in. @throws OptionError naming the first that is impossible */
export function resolveOptions(options: GenerateOptions, defaults: SamplingDefaults): ResolvedOptions {
  refuseUnknown(options, optionNames)
  if ((options.prompt === undefined) === (options.messages === undefined)) {
    throw new OptionError('prompt', 'expected either a prompt or messages')
  }
  const { maxTokens, topLogprobs = 0, stop = [] } = options
  if (maxTokens !== undefined) requireWhole('maxTokens', maxTokens, 1)
  requireWhole('topLogprobs', topLogprobs, 0, MOST_TOP_LOGPROBS)
  const sampling = { ...resolveSampling(options, defaults), topLogprobs }
  const stops = typeof stop === 'string' ? [stop] : stop
  if (
    !Array.isArray(stops) ||
    stops.length > MOST_STOPS ||
    stops.some((each) => typeof each !== 'string' || each === '')
  ) {
    throw new OptionError(
      'stop',
      `expected at most ${MOST_STOPS} strings, none of them empty, got ${shownValue(stop)}`,
    )
  }
  const seed = options.seed ?? Math.floor(Math.random() * 2 ** 32)
  requireWhole('seed', seed, 0)
  return { sampling, stops, seed }
}

function resolveSampling(
  options: GenerateOptions,
  defaults: SamplingDefaults,
): Omit<Sampling, 'topLogprobs'> {
  const temperature = options.temperature ?? defaults.temperature ?? 1
  const topK = options.topK ?? defaults.topK ?? 0
  const topP = options.topP ?? defaults.topP ?? 1
  const minP = options.minP ?? defaults.minP ?? 0
  const repetitionPenalty = options.repetitionPenalty ?? defaults.repetitionPenalty ?? 1
  if (!isWithin(temperature, 0, 100)) {
    throw new OptionError('temperature', `expected a number from 0 to 100, got ${temperature}`)
  }
  requireWhole('topK', topK, 0)
  requireShare('topP', topP)
  requireShare('minP', minP)
  if (!(isWithin(repetitionPenalty, 0, 100) && repetitionPenalty > 0)) {
    throw new OptionError(
      'repetitionPenalty',
      `expected a number above 0, up to 100, got ${repetitionPenalty}`,
    )
  }
  return { temperature, topK, topP, minP, repetitionPenalty }
}

/**
 * How many tokens the prompt and the answer may have together.
 *
 * @throws TextError for a prompt that leaves no room for an answer, OptionError for a `maxTokens` that does not fit
 */
export function requireRoom(promptTokens: number, maxTokens: number | undefined, context: number): number {
  if (promptTokens === 0) {
    throw new TextError('the prompt has no tokens; expected at least one. Give a text that is not empty')
  }
  if (promptTokens >= context) {
    throw new TextError(
      `the prompt has ${promptTokens} tokens, and the context ${context}; expected at least one token less. Shorten the ` +
        'prompt or leave out older messages, or open the model with a larger context if it has one',
    )
  }
  if (maxTokens === undefined) return context
  if (promptTokens + maxTokens <= context) return promptTokens + maxTokens
  throw new OptionError(
    'maxTokens',
    `found ${maxTokens}; the prompt has ${promptTokens} of the ${context} tokens of the context, which leaves ` +
      `${context - promptTokens}. Ask for fewer, or shorten the prompt`,
  )
}
