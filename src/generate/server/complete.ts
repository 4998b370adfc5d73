import { randomUUID } from 'node:crypto'
import { setMaxListeners } from 'node:events'
import type { ServerResponse } from 'node:http'
import { OptionError } from '../../common/errors.js'
import type { GeneratedToken } from '../answer.js'
import type { GenerateOptions } from '../generate-options.js'
import type { Generator } from '../open-generator.js'
import { type AnswerFormat, answerFormat, usageOf } from './answer-format.js'
import { ApiError, asApiError, badField, errorBody } from './api-error.js'
import { type EventStream, openEventStream } from './event-stream.js'
import type { CompletionRequest } from './parse-request.js'

/** How many tokens a request took. */
export interface TokenCounts {
  promptTokens: number
  completionTokens: number
}

/**
 * Answers a request, whole or as a stream.
 *
 * @param signal fires when the client went away or the time is up
 * @param counts are kept up to date
 * @throws ApiError and errors of the generator, as long as nothing was sent
 */
export async function complete(
  generator: Generator,
  model: string,
  request: CompletionRequest,
  response: ServerResponse,
  signal: AbortSignal,
  counts: TokenCounts,
): Promise<void> {
  if (request.model !== undefined && request.model !== model) {
    throw new ApiError(
      404,
      `the model ${JSON.stringify(request.model)} is not there; this server has ${model}`,
      {
        param: 'model',
        code: 'model_not_found',
      },
    )
  }
  const own = new AbortController()
  const stops = AbortSignal.any([signal, own.signal])
  // each answer listens to it
  setMaxListeners(0, stops)
  const tasks = await tasksOf(generator, request, stops, counts)
  const answers = tasks.map((task) => begin(generator, task, request.maxTokensField))
  const prefix = request.kind === 'chat' ? 'chatcmpl' : 'cmpl'
  const head = { id: `${prefix}-${randomUUID()}`, created: Math.floor(Date.now() / 1000), model }
  const format = answerFormat(request, head, generator.tokenizer)
  try {
    if (request.stream) await streamAnswers(answers, request, format, response, signal, counts)
    else await sendAnswers(answers, format, response, counts)
  } finally {
    // of several answers one may have failed
    own.abort()
  }
}

/** Begins an answer; where the context has no room for it, the field that asks for its length is to blame. */
function begin(
  generator: Generator,
  task: GenerateOptions,
  maxTokensField: string,
): AsyncIterable<GeneratedToken> {
  try {
    return generator.generate(task)
  } catch (error) {
    if (!(error instanceof OptionError) || error.option !== 'maxTokens') throw error
    throw badField(maxTokensField, error.message.slice('maxTokens: '.length), 'context_length_exceeded')
  }
}

async function sendAnswers(
  answers: readonly AsyncIterable<GeneratedToken>[],
  format: AnswerFormat,
  response: ServerResponse,
  counts: TokenCounts,
): Promise<void> {
  const written = await Promise.all(
    answers.map(async (answer) => {
      const tokens: GeneratedToken[] = []
      for await (const token of answer) {
        tokens.push(token)
        counts.completionTokens++
      }
      return tokens
    }),
  )
  sendJson(response, 200, format.whole(written, usageOf(counts.promptTokens, counts.completionTokens)))
}

/** One task per answer: those to the first prompt, then those to the second. Each prompt is encoded once. */
async function tasksOf(
  { encodeToFit, context }: Generator,
  { kind, prompts, count, options }: CompletionRequest,
  signal: AbortSignal,
  counts: TokenCounts,
): Promise<GenerateOptions[]> {
  const tasks: GenerateOptions[] = []
  for (const given of prompts) {
    const prompt = await encodeToFit(given, signal)
    if (prompt === undefined) {
      const message = `has more than ${context - 1} tokens; expected fewer than the ${context} of the context. Shorten it`
      throw badField(kind === 'chat' ? 'messages' : 'prompt', message, 'context_length_exceeded')
    }
    counts.promptTokens += prompt.length
    for (let i = 0; i < count; i++) {
      const seed = options.seed === undefined ? undefined : options.seed + i
      tasks.push({ ...options, prompt, separate: kind === 'chat', seed, signal })
    }
  }
  return tasks
}

async function streamAnswers(
  answers: readonly AsyncIterable<GeneratedToken>[],
  request: CompletionRequest,
  format: AnswerFormat,
  response: ServerResponse,
  signal: AbortSignal,
  counts: TokenCounts,
): Promise<void> {
  const events = openEventStream(response, signal)
  try {
    await Promise.all(
      answers.map((answer, index) => streamAnswer(answer, index, request.logprobs, format, events, counts)),
    )
    if (request.streamsUsage) {
      await events.send(format.usage(usageOf(counts.promptTokens, counts.completionTokens)))
    }
    await events.send('[DONE]')
  } catch (error) {
    // the status is sent already: the client learns of it by an event
    await events.send(errorBody(asApiError(signal.reason instanceof ApiError ? signal.reason : error)))
    throw error
  } finally {
    events.end()
  }
}

async function streamAnswer(
  answer: AsyncIterable<GeneratedToken>,
  index: number,
  logprobs: boolean,
  format: AnswerFormat,
  events: EventStream,
  counts: TokenCounts,
): Promise<void> {
  const opening = format.opening(index)
  if (opening !== undefined) await events.send(opening)
  for await (const token of answer) {
    counts.completionTokens++
    if (token.text !== '' || logprobs || token.finishReason !== undefined) {
      await events.send(format.chunk(index, [token]))
    }
  }
}

/** Sends a whole response. */
export function sendJson(
  response: ServerResponse,
  status: number,
  body: object,
  headers: Record<string, string> = {},
): void {
  const text = JSON.stringify(body)
  response.writeHead(status, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(text),
    ...headers,
  })
  response.end(text)
}
