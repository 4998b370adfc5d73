import { isObject } from '../../checkpoint/json-file.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import type { GgufValue } from '../write-header.js'
import { endsAsKeys } from './end-tokens.js'
import type { Vocabulary } from './vocabulary.js'
import type { NotedValues } from './vocabulary-of-tokenizer.js'

/** The small files of a model folder, parsed; undefined where there is none. */
export interface ModelFiles {
  readonly tokenizer: Readonly<Record<string, unknown>>
  readonly settings: Readonly<Record<string, unknown>> | undefined
  readonly generation: Readonly<Record<string, unknown>> | undefined
  /** `chat_template.jinja`. */
  readonly template: string | undefined
}

/** Special tokens and the chat template as metadata. */
export function specialTokens(
  files: ModelFiles,
  config: Readonly<Record<string, unknown>>,
  { bosTokenId, eosTokenIds, vocabSize }: DecoderDescription,
  vocabulary: Vocabulary,
): NotedValues {
  const values = new Map<string, GgufValue>()
  const id = (name: string, value: number | undefined) => {
    if (value !== undefined && value < vocabSize) {
      values.set(`tokenizer.ggml.${name}_token_id`, { kind: 'u32', value })
    }
  }
  const named = (field: string) => idOf(files, field)
  // the tokenizer's own comes first, as where text is written here and in the converter of llama.cpp
  const ends = new Set([named('eos_token'), ...endsOf(files.generation), ...eosTokenIds])
  const known = [...ends].filter((end) => end !== undefined && end < vocabSize) as number[]
  const { keys, untold } = endsAsKeys(known, vocabulary)
  id('bos', named('bos_token') ?? bosTokenId)
  for (const [name, end] of keys) id(name, end)
  id('unknown', named('unk_token'))
  const padding = config.pad_token_id
  id('padding', typeof padding === 'number' ? padding : named('pad_token'))
  const begins = addsBos(files) && values.has('tokenizer.ggml.bos_token_id')
  values.set('tokenizer.ggml.add_bos_token', { kind: 'bool', value: begins })
  const template = templateOf(files)
  if (template !== undefined) values.set('tokenizer.chat_template', { kind: 'text', value: template })
  return { values, notes: untoldNotes(untold, vocabulary) }
}

function untoldNotes(untold: readonly number[], { tokens }: Vocabulary): string[] {
  if (untold.length === 0) return []
  const list = untold.map((id) => `${id} (${JSON.stringify(tokens[id])})`).join(', ')
  return [`a GGUF file names three tokens that end an answer; at these llama.cpp writes on: ${list}`]
}

function endsOf(generation: ModelFiles['generation']): readonly number[] {
  return [generation?.eos_token_id].flat().filter((id) => Number.isSafeInteger(id)) as number[]
}

function idOf({ settings, tokenizer }: ModelFiles, field: string): number | undefined {
  const found = settings?.[field]
  const content = isObject(found) ? found.content : found
  if (typeof content !== 'string') return undefined
  const added: readonly unknown[] = Array.isArray(tokenizer.added_tokens) ? tokenizer.added_tokens : []
  const token = added.filter(isObject).find((one) => one.content === content)
  if (typeof token?.id === 'number') return token.id
  const { model } = tokenizer
  const id = isObject(model) && isObject(model.vocab) ? model.vocab[content] : undefined
  return typeof id === 'number' ? id : undefined
}

/** What the settings say, else whether the tokenizer itself puts a special token first. */
function addsBos({ settings, tokenizer }: ModelFiles): boolean {
  if (typeof settings?.add_bos_token === 'boolean') return settings.add_bos_token
  const post = tokenizer.post_processor
  const steps: readonly unknown[] =
    isObject(post) && Array.isArray(post.processors) ? post.processors : [post]
  return steps.some((step) => {
    if (!isObject(step) || step.type !== 'TemplateProcessing' || !Array.isArray(step.single)) return false
    const [first]: readonly unknown[] = step.single
    return isObject(first) && 'SpecialToken' in first
  })
}

function templateOf({ settings, template }: ModelFiles): string | undefined {
  if (template !== undefined) return template
  const found = settings?.chat_template
  if (typeof found === 'string') return found
  if (!Array.isArray(found)) return undefined
  const usual = found.filter(isObject).find(({ name }) => name === 'default')
  return typeof usual?.template === 'string' ? usual.template : undefined
}
