import { isObject } from '../../checkpoint/json-file.js'
import type { GenerateOptions, PromptOptions } from '../generate-options.js'
import { badField } from './api-error.js'
import { type RequestFields, requestFields } from './read-fields.js'
import { readMessages } from './read-messages.js'

/** What a client asks for. */
export interface CompletionRequest {
  readonly kind: 'chat' | 'text'
  /** Name of the model, where it was given. */
  readonly model: string | undefined
  readonly prompts: readonly PromptOptions[]
  /** Answers to each prompt. */
  readonly count: number
  /** Of each answer, but for the seed, which the number of the answer is added to. */
  readonly options: Omit<GenerateOptions, keyof PromptOptions>
  /** The field that `maxTokens` of the options came from. */
  readonly maxTokensField: string
  readonly stream: boolean
  /** Whether a stream ends with the counts of tokens. */
  readonly streamsUsage: boolean
  readonly logprobs: boolean
}

/** Answers of one request at most. */
const MOST_ANSWERS = 16
/** What `/v1/completions` writes where the client does not say. */
const TEXT_TOKENS = 16
const MOST_TEXT_LOGPROBS = 20

/** Fields that are about the client's account, or that change nothing here. */
const ignored = ['user', 'metadata', 'store', 'service_tier', 'safety_identifier', 'prompt_cache_key']

/** Reads the body of `/v1/chat/completions`. @throws ApiError naming the field */
export function parseChatRequest(body: unknown): CompletionRequest {
  const fields = requestFields(body)
  const prompts = [{ messages: readMessages(fields.raw('messages')) }]
  const logprobs = fields.flag('logprobs') ?? false
  const topLogprobs = fields.number('top_logprobs')
  if (topLogprobs !== undefined && !logprobs) throw badField('top_logprobs', 'expected logprobs to be true')
  const nothing = (value: unknown) => Array.isArray(value) && value.length === 0
  fields.refuse('tools', nothing, 'calling tools')
  fields.refuse('functions', nothing, 'calling functions')
  fields.refuse('tool_choice', (value) => value === 'none' || value === 'auto', 'calling tools')
  fields.refuse('function_call', (value) => value === 'none' || value === 'auto', 'calling functions')
  fields.refuse('parallel_tool_calls', () => true, '')
  const isText = (value: unknown) => isObject(value) && value.type === 'text'
  fields.refuse('response_format', isText, 'another format than text')
  const onlyText = (value: unknown) => Array.isArray(value) && value.every((each) => each === 'text')
  fields.refuse('modalities', onlyText, 'another modality than text')
  const newer = readMaxTokens(fields, 'max_completion_tokens')
  const older = readMaxTokens(fields, 'max_tokens')
  const maxTokensField = newer === undefined ? 'max_tokens' : 'max_completion_tokens'
  const options = { maxTokens: newer ?? older, topLogprobs }
  return finish(fields, { kind: 'chat', prompts, logprobs, maxTokensField }, options)
}

/** Reads the body of `/v1/completions`. @throws ApiError naming the field */
export function parseTextRequest(body: unknown): CompletionRequest {
  const fields = requestFields(body)
  const prompts = readPrompts(fields.raw('prompt'))
  const topLogprobs = fields.number('logprobs')
  if (topLogprobs !== undefined && !(topLogprobs >= 0 && topLogprobs <= MOST_TEXT_LOGPROBS)) {
    throw badField('logprobs', `expected a number from 0 to ${MOST_TEXT_LOGPROBS}`)
  }
  fields.refuse('echo', (value) => value === false, 'repeating the prompt')
  fields.refuse('suffix', (value) => value === '', 'text behind the answer')
  fields.refuse('best_of', (value) => value === 1, 'choosing among answers')
  const maxTokens = readMaxTokens(fields, 'max_tokens') ?? TEXT_TOKENS
  const parts = {
    kind: 'text',
    prompts,
    logprobs: topLogprobs !== undefined,
    maxTokensField: 'max_tokens',
  } as const
  return finish(fields, parts, { maxTokens, topLogprobs })
}

function finish(
  fields: RequestFields,
  parts: Pick<CompletionRequest, 'kind' | 'prompts' | 'logprobs' | 'maxTokensField'>,
  { maxTokens, topLogprobs }: Pick<GenerateOptions, 'maxTokens' | 'topLogprobs'>,
): CompletionRequest {
  const model = fields.raw('model')
  if (model !== undefined && typeof model !== 'string') throw badField('model', 'expected a name')
  const count = fields.number('n') ?? 1
  if (!Number.isSafeInteger(count) || count < 1 || count * parts.prompts.length > MOST_ANSWERS) {
    throw badField('n', `expected 1 to ${MOST_ANSWERS} answers to all prompts together`)
  }
  const isZero = (value: unknown) => value === 0
  fields.refuse('frequency_penalty', isZero, 'this penalty (repetition_penalty is)')
  fields.refuse('presence_penalty', isZero, 'this penalty (repetition_penalty is)')
  fields.refuse('logit_bias', (value) => isObject(value) && Object.keys(value).length === 0, 'a bias')
  const options = {
    maxTokens,
    topLogprobs,
    temperature: fields.number('temperature'),
    topK: fields.number('top_k'),
    topP: fields.number('top_p'),
    minP: fields.number('min_p'),
    repetitionPenalty: fields.number('repetition_penalty'),
    seed: readSeed(fields),
    stop: readStops(fields.raw('stop')),
  }
  const stream = fields.flag('stream') ?? false
  const streamsUsage = fields.object('stream_options')?.include_usage === true
  fields.refuseOthers(ignored)
  return { ...parts, model, count, options, stream, streamsUsage }
}

function readMaxTokens(fields: RequestFields, name: string): number | undefined {
  const found = fields.number(name)
  if (found === undefined || (Number.isSafeInteger(found) && found >= 1)) return found
  throw badField(name, `expected a whole number of at least 1, got ${found}`)
}

/** Clients may send any whole number; one below 0 is taken for the 32 bits that it has in two's complement. */
function readSeed(fields: RequestFields): number | undefined {
  const found = fields.number('seed')
  return found !== undefined && Number.isSafeInteger(found) && found < 0 ? found >>> 0 : found
}

function readStops(value: unknown): string[] | undefined {
  if (value === undefined) return undefined
  const stops = [value].flat()
  if (stops.every((each) => typeof each === 'string')) return stops as string[]
  throw badField('stop', 'expected a string or a list of strings')
}

/** A text, the token ids of one, or a list of either. */
function readPrompts(value: unknown): PromptOptions[] {
  const isIds = (list: unknown): list is number[] =>
    Array.isArray(list) && list.length > 0 && list.every((id) => Number.isSafeInteger(id) && id >= 0)
  if (typeof value === 'string' || isIds(value)) return [{ prompt: value }]
  if (Array.isArray(value) && value.length > 0) {
    if (value.every((each) => typeof each === 'string' || isIds(each))) {
      return value.map((prompt) => ({ prompt }))
    }
  }
  throw badField('prompt', 'expected a text, a list of token ids, or a list of such')
}
