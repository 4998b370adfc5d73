import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers'
import { CheckpointError, TextError, UnsupportedError } from '../errors.js'
import type { DecoderDescription } from './decoder/description.js'
import { cutLongWords } from './word-cuts.js'

/** Text to token ids and back, without special tokens of its own. */
export interface Tokenizer {
  /** Path of the `tokenizer.json`, for errors. */
  readonly file: string
  /** One more than the largest id, added tokens included. */
  readonly vocabSize: number
  /** One more than the largest id that is not an added token's. */
  readonly learnedVocabSize: number
  /** The ids of a whole text. No token is put before or after it; special tokens written out in it are recognised. */
  encode(text: string): Int32Array
  /** The text of some ids. @throws TextError for an id that is not in the vocabulary */
  decode(ids: Int32Array): string
}

/**
 * Loads the tokenizer of a Hugging Face model folder: `tokenizer.json`, and `tokenizer_config.json` where present.
 *
 * @throws CheckpointError when `tokenizer.json` is missing or damaged
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const file = join(folder, 'tokenizer.json')
  const definition = await readJson(file)
  if (definition === undefined) {
    throw new CheckpointError(
      `${file}: no such file; expected the tokenizer in the format of Hugging Face. A folder with tokenizer.model alone ` +
        'has to be saved once by AutoTokenizer(...).save_pretrained of transformers',
    )
  }
  const settings = (await readJson(join(folder, 'tokenizer_config.json'))) ?? {}
  const inner = construct(definition, settings, file)
  cutLongWords(inner, definition)
  return { file, ...vocabularySizes(inner), ...coder(inner, file) }
}

/**
 * Checks that a model knows every token of a tokenizer. Added tokens beyond the model's vocabulary (a padding token,
 * usually) are let through: texts do not use them, and an id that does occur is checked when it is looked up.
 *
 * @throws UnsupportedError naming both sizes
 */
export function checkVocabulary(tokenizer: Tokenizer, config: DecoderDescription): void {
  if (tokenizer.learnedVocabSize <= config.vocabSize) return
  throw new UnsupportedError(
    `${tokenizer.file}: has token ids up to ${tokenizer.learnedVocabSize - 1}, but the model's vocabulary has ` +
      `${config.vocabSize} tokens (vocab_size in config.json): the tokenizer is of another vocabulary. ` +
      'Use the tokenizer.json that belongs to the model',
  )
}

async function readJson(file: string): Promise<object | undefined> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new CheckpointError(`${file}: cannot be read (${reason(cause)})`, { cause })
  }
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  } catch (cause) {
    throw new CheckpointError(`${file}: is not JSON (${reason(cause)}); the file is damaged`, { cause })
  }
  throw new CheckpointError(`${file}: found JSON that is not an object; the file is damaged`)
}

function construct(definition: object, settings: object, file: string): HuggingFaceTokenizer {
  try {
    const inner = new HuggingFaceTokenizer(definition, settings)
    if (inner.model === null || inner.model.vocab.length === 0) throw new Error('it has no vocabulary')
    return inner
  } catch (cause) {
    throw new CheckpointError(
      `${file}: is not a tokenizer that can be used (${reason(cause)}); the file is damaged or of an unknown kind`,
      { cause },
    )
  }
}

function vocabularySizes(inner: HuggingFaceTokenizer) {
  const vocab = inner.model?.vocab ?? []
  const added = inner.get_added_tokens_decoder()
  let learned = vocab.length
  while (learned > 0 && added.has(learned - 1)) learned--
  return { vocabSize: vocab.length, learnedVocabSize: learned }
}

/** What the package returns; its own declaration does not resolve under Node's module rules. */
interface Encoding {
  readonly ids: readonly number[]
  readonly tokens: readonly string[]
}

function coder(inner: HuggingFaceTokenizer, file: string): Pick<Tokenizer, 'encode' | 'decode'> {
  return {
    encode: (text) => {
      if (text === '') return new Int32Array(0)
      const { ids, tokens }: Encoding = inner.encode(text, { add_special_tokens: false })
      const unknown = ids.findIndex((id) => !Number.isInteger(id))
      if (unknown >= 0) {
        throw new TextError(
          `${file}: has no id for ${JSON.stringify(tokens[unknown])}, token ${unknown} of the text, and no unknown token`,
        )
      }
      return Int32Array.from(ids)
    },
    decode: (ids) => {
      const unknown = ids.findIndex((id) => inner.id_to_token(id) === undefined)
      if (unknown >= 0) throw new TextError(`${file}: has no token with the id ${ids[unknown]}`)
      if (ids.length === 0) return ''
      return inner.decode(Array.from(ids), { clean_up_tokenization_spaces: false })
    },
  }
}

function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}
