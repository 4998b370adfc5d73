import type { Tokenizer } from '../../model/tokenizer.js'
import type { FinishReason, GeneratedToken } from '../answer.js'
import type { CompletionRequest } from './parse-request.js'

/** What a response is about, whether it comes whole or as a stream. */
export interface AnswerFormat {
  /** The choices of a whole response, from the tokens of each answer. */
  whole(answers: readonly (readonly GeneratedToken[])[], usage: Usage): object
  /** A chunk with the tokens that came to an answer since the last one. */
  chunk(index: number, tokens: readonly GeneratedToken[]): object
  /** What comes before the first chunk of an answer; undefined: nothing. */
  opening(index: number): object | undefined
  /** A last chunk, without choices. */
  usage(usage: Usage): object
}

/** Tokens that were read and written. */
export interface Usage {
  readonly prompt_tokens: number
  readonly completion_tokens: number
  readonly total_tokens: number
}

/** Counts of a request; the tokens of a prompt count once, however many answers it gets. */
export function usageOf(promptTokens: number, completionTokens: number): Usage {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
  }
}

const textOf = (tokens: readonly GeneratedToken[]) => tokens.map(({ text }) => text).join('')

const reasonOf = (tokens: readonly GeneratedToken[]): 'stop' | 'length' | null => {
  const reason: FinishReason | undefined = tokens.at(-1)?.finishReason
  return reason === undefined ? null : reason === 'length' ? 'length' : 'stop'
}

/** The form of the answers to a request. */
export function answerFormat(
  { kind, logprobs }: CompletionRequest,
  head: { readonly id: string; readonly created: number; readonly model: string },
  tokenizer: Tokenizer,
): AnswerFormat {
  return kind === 'chat' ? chatFormat(head, logprobs, tokenizer) : textFormat(head, logprobs, tokenizer)
}

function chatFormat(head: object, logprobs: boolean, tokenizer: Tokenizer): AnswerFormat {
  const scores = (tokens: readonly GeneratedToken[]) => (logprobs ? chatLogprobs(tokens, tokenizer) : null)
  const chunk = (choices: object[]) => ({ ...head, object: 'chat.completion.chunk', choices })
  return {
    whole: (answers, usage) => ({
      ...head,
      object: 'chat.completion',
      choices: answers.map((tokens, index) => ({
        index,
        message: { role: 'assistant', content: textOf(tokens), refusal: null },
        logprobs: scores(tokens),
        finish_reason: reasonOf(tokens),
      })),
      usage,
    }),
    opening: (index) =>
      chunk([{ index, delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null }]),
    chunk: (index, tokens) =>
      chunk([
        {
          index,
          delta: { content: textOf(tokens) },
          logprobs: scores(tokens),
          finish_reason: reasonOf(tokens),
        },
      ]),
    usage: (usage) => ({ ...chunk([]), usage }),
  }
}

function textFormat(head: object, logprobs: boolean, tokenizer: Tokenizer): AnswerFormat {
  const offsets = new Map<number, number>()
  const choiceOf = (tokens: readonly GeneratedToken[], index: number) => {
    const text = textOf(tokens)
    const start = offsets.get(index) ?? 0
    offsets.set(index, start + text.length)
    const scores = logprobs ? textLogprobs(tokens, start, tokenizer) : null
    return { index, text, logprobs: scores, finish_reason: reasonOf(tokens) }
  }
  const body = { ...head, object: 'text_completion' }
  return {
    whole: (answers, usage) => ({ ...body, choices: answers.map(choiceOf), usage }),
    opening: () => undefined,
    chunk: (index, tokens) => ({ ...body, choices: [choiceOf(tokens, index)] }),
    usage: (usage) => ({ ...body, choices: [], usage }),
  }
}

const pieceOf = (tokenizer: Tokenizer, token: number) => tokenizer.decode(Int32Array.of(token))

function chatLogprobs(tokens: readonly GeneratedToken[], tokenizer: Tokenizer): object {
  const scored = (text: string, logprob: number) => ({ token: text, logprob, bytes: [...Buffer.from(text)] })
  return {
    content: tokens.map(({ token, logprob, topLogprobs = [] }) => ({
      ...scored(pieceOf(tokenizer, token), logprob),
      top_logprobs: topLogprobs.map((each) => scored(each.text, each.logprob)),
    })),
    refusal: null,
  }
}

function textLogprobs(tokens: readonly GeneratedToken[], start: number, tokenizer: Tokenizer): object {
  let offset = start
  return {
    tokens: tokens.map(({ token }) => pieceOf(tokenizer, token)),
    token_logprobs: tokens.map(({ logprob }) => logprob),
    top_logprobs: tokens.map(({ topLogprobs = [] }) =>
      Object.fromEntries(topLogprobs.map(({ text, logprob }) => [text, logprob])),
    ),
    text_offset: tokens.map(({ text }) => {
      const at = offset
      offset += text.length
      return at
    }),
  }
}
