import { assertTokenIds } from '../model/decoder/embedding.js'
import type { Tokenizer } from '../model/tokenizer.js'
import type { ChatTemplate } from './chat-template.js'
import type { PromptOptions } from './generate-options.js'

/** Makes prompts and chats into tokens; see `Generator`. */
export interface PromptEncoder {
  encode(options: PromptOptions): number[]
  encodeToFit(options: PromptOptions, signal?: AbortSignal): Promise<number[] | undefined>
}

/** What prompts are encoded by, and for. */
export interface EncoderParts {
  readonly tokenizer: Tokenizer
  readonly chat: ChatTemplate
  /** In front of a text; a chat's template writes its own. */
  readonly leadingIds: readonly number[]
  /** Of the model. */
  readonly vocabSize: number
  /** Tokens of a prompt and its answer together at most. */
  readonly context: number
}

/** An encoder for one model. */
export function promptEncoder(parts: EncoderParts): PromptEncoder {
  const { tokenizer, chat, vocabSize, context } = parts
  const finish = (found: ArrayLike<number>, leadingIds: readonly number[]): number[] => {
    const ids = Array.from(found)
    const whole = leadingIds.every((id, i) => ids[i] === id) ? ids : [...leadingIds, ...ids]
    assertTokenIds(Int32Array.from(whole), vocabSize)
    return whole
  }
  /** The text to encode and the tokens in front of it; undefined for a prompt of ids. */
  const written = ({ prompt, messages }: PromptOptions) => {
    if (messages !== undefined) return { text: chat(messages), leadingIds: [] }
    return typeof prompt === 'string' ? { text: prompt, leadingIds: parts.leadingIds } : undefined
  }
  const idsOf = ({ prompt }: PromptOptions) => finish((prompt as ArrayLike<number> | undefined) ?? [], [])
  return {
    encode(options) {
      const given = written(options)
      return given === undefined ? idsOf(options) : finish(tokenizer.encode(given.text), given.leadingIds)
    },
    async encodeToFit(options, signal) {
      const most = context - 1
      const given = written(options)
      if (given === undefined) return (options.prompt?.length ?? 0) > most ? undefined : idsOf(options)
      const found = await tokenizer.encodeAtMost(given.text, most, signal)
      const ids = found && finish(found, given.leadingIds)
      return ids !== undefined && ids.length <= most ? ids : undefined
    },
  }
}
