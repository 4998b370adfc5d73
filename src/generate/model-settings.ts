import type { Checkpoint } from '../checkpoint/checkpoint.js'
import { isObject, readJsonObject } from '../checkpoint/json-file.js'
import { fileIn, readSmallFile } from '../checkpoint/model-source.js'
import { decodeText } from '../checkpoint/model-text.js'
import { CheckpointError } from '../common/errors.js'
import type { DecoderDescription } from '../model/decoder/description.js'
import type { Tokenizer } from '../model/tokenizer.js'

/** What the files beside the weights say of how a model writes. */
export interface ModelSettings {
  /** Tokens that end an answer. */
  readonly endTokens: ReadonlySet<number>
  /** Tokens in front of a prompt that is plain text. */
  readonly leadingIds: readonly number[]
  /** Defaults of options, from `generation_config.json`. */
  readonly defaults: SamplingDefaults
  /** Undefined: the model is not made for chats. */
  readonly chatTemplate: ChatTemplateText | undefined
}

/** Options that `generation_config.json` has values for. */
export interface SamplingDefaults {
  readonly temperature?: number
  readonly topK?: number
  readonly topP?: number
  readonly minP?: number
  readonly repetitionPenalty?: number
}

/** A chat template as it is written. */
export interface ChatTemplateText {
  /** Where it stands, for errors. */
  readonly file: string
  readonly text: string
  /** `bos_token` and the like, for the template. */
  readonly specialTokens: Readonly<Record<string, string>>
}

type Fields = Readonly<Record<string, unknown>>

/** Reads `generation_config.json`, `tokenizer_config.json` and `chat_template.jinja`, as far as they are there. */
export async function readModelSettings(
  checkpoint: Checkpoint,
  config: DecoderDescription,
  tokenizer: Tokenizer,
): Promise<ModelSettings> {
  const made = checkpoint.madeFiles?.()
  const read = (name: string): Promise<Fields> | Fields => {
    const text = made?.get(name)
    if (text !== undefined) return JSON.parse(text)
    return checkpoint.otherFiles.includes(name) ? readJsonObject(checkpoint.files, name) : {}
  }
  const generation = await read('generation_config.json')
  const ofTokenizer = await read('tokenizer_config.json')
  const specialTokens = readSpecialTokens(ofTokenizer)
  const idOf = (content: string | undefined) => singleId(tokenizer, content)
  const ends = [generation.eos_token_id].flat().filter((id) => Number.isSafeInteger(id)) as number[]
  const ownEnd = idOf(specialTokens.eos_token)
  return {
    endTokens: new Set([...config.eosTokenIds, ...ends, ...(ownEnd === undefined ? [] : [ownEnd])]),
    leadingIds: leadingIds(
      tokenizer,
      ofTokenizer.add_bos_token,
      idOf(specialTokens.bos_token) ?? config.bosTokenId,
    ),
    defaults: readDefaults(generation, fileIn(checkpoint.files, 'generation_config.json')),
    chatTemplate: await readChatTemplate(checkpoint, ofTokenizer, specialTokens),
  }
}

/** `add_bos_token` is the later word on what the tokenizer's own post-processor does. */
function leadingIds(tokenizer: Tokenizer, addsBos: unknown, bos: number | undefined): readonly number[] {
  if (typeof addsBos !== 'boolean' || bos === undefined) return tokenizer.leadingIds
  if (!addsBos) return tokenizer.leadingIds.filter((id) => id !== bos)
  return tokenizer.leadingIds.includes(bos) ? tokenizer.leadingIds : [bos, ...tokenizer.leadingIds]
}

function singleId(tokenizer: Tokenizer, content: string | undefined): number | undefined {
  if (content === undefined) return undefined
  const ids = tokenizer.encode(content)
  return ids.length === 1 && tokenizer.specialIds.has(ids[0]) ? ids[0] : undefined
}

function readSpecialTokens(fields: Fields): Record<string, string> {
  const tokens: Record<string, string> = {}
  for (const name of ['bos_token', 'eos_token', 'unk_token', 'pad_token']) {
    const value = fields[name]
    if (typeof value === 'string') tokens[name] = value
    else if (isObject(value) && typeof value.content === 'string') tokens[name] = value.content
  }
  return tokens
}

const fieldsOfOptions = {
  temperature: 'temperature',
  topK: 'top_k',
  topP: 'top_p',
  minP: 'min_p',
  repetitionPenalty: 'repetition_penalty',
} as const

function readDefaults(fields: Fields, file: string): SamplingDefaults {
  const defaults: Record<string, number> = {}
  for (const [option, field] of Object.entries(fieldsOfOptions)) {
    const value = fields[field]
    if (value === undefined || value === null) continue
    if (typeof value !== 'number' || !Number.isFinite(value) || value < 0) {
      throw new CheckpointError(
        `${file}: ${field} is ${JSON.stringify(value)}; expected a number not below 0. Correct it, or take the field out`,
      )
    }
    defaults[option] = value
  }
  return defaults
}

async function readChatTemplate(
  { files, otherFiles }: Checkpoint,
  fields: Fields,
  specialTokens: Record<string, string>,
): Promise<ChatTemplateText | undefined> {
  if (otherFiles.includes('chat_template.jinja')) {
    const file = fileIn(files, 'chat_template.jinja')
    const text = decodeText(await readSmallFile(files, 'chat_template.jinja'), file)
    return { file, text, specialTokens }
  }
  const file = `${fileIn(files, 'tokenizer_config.json')}: chat_template`
  const text = defaultTemplate(fields.chat_template)
  return text === undefined ? undefined : { file, text, specialTokens }
}

/** A template by itself, or the one called `default` of a list. */
function defaultTemplate(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (!Array.isArray(value)) return undefined
  const named = value.find((each) => isObject(each) && each.name === 'default')
  return typeof named?.template === 'string' ? named.template : undefined
}
