import type { Tokenizer } from '../../model/tokenizer.js'
import type { FinishReason, GeneratedToken, TokenLogprob } from '../answer.js'
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

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** A token as log-probabilities name it: its text, or `bytes:\xe2\x80` where it is no whole characters. */
function nameOf(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes)
  } catch {
    return `bytes:${Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`
  }
}

function chatLogprobs(tokens: readonly GeneratedToken[], tokenizer: Tokenizer): object {
  const scored = ({ token, logprob }: Omit<TokenLogprob, 'text'>) => {
    const bytes = tokenizer.bytesOf(token)
    return { token: nameOf(bytes), logprob, bytes: [...bytes] }
  }
  return {
    content: tokens.map((token) => ({
      ...scored(token),
      top_logprobs: (token.topLogprobs ?? []).map(scored),
    })),
    refusal: null,
  }
}

/** As OpenAI's interface has them: by name, so that of two tokens with one name only the likelier is told. */
function textLogprobs(tokens: readonly GeneratedToken[], start: number, tokenizer: Tokenizer): object {
  let offset = start
  const named = ({ token }: { readonly token: number }) => nameOf(tokenizer.bytesOf(token))
  const likeliest = (top: readonly TokenLogprob[]) => {
    const scores = new Map<string, number>()
    for (const each of top) {
      const name = named(each)
      if (!scores.has(name)) scores.set(name, each.logprob)
    }
    return Object.fromEntries(scores)
  }
  return {
    tokens: tokens.map(named),
    token_logprobs: tokens.map(({ logprob }) => logprob),
    top_logprobs: tokens.map(({ topLogprobs = [] }) => likeliest(topLogprobs)),
    text_offset: tokens.map(({ text }) => {
      const at = offset
      offset += text.length
      return at
    }),
  }
}
