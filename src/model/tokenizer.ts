import { requireShallow } from '../checkpoint/json-file.js'
import { fileIn, type ModelPlace, placeOf, requireModel } from '../checkpoint/model-source.js'
import { readModelText } from '../checkpoint/model-text.js'
import { CheckpointError, GptvqError, TextError, UnsupportedError } from '../common/errors.js'
import { pacer } from '../common/event-loop.js'
import { addedTokenSplitter, readAddedTokens } from './tokenizer/added-tokens.js'
import { readByteReader, readDecoder } from './tokenizer/decoders.js'
import { readNormalizer } from './tokenizer/normalizers.js'
import { readLeadingIds } from './tokenizer/post-processor.js'
import { readPreTokenizer } from './tokenizer/pre-tokenizers.js'
import { readSection, type Section } from './tokenizer/section.js'
import { readModel } from './tokenizer/words/model.js'

const TOKENIZER_FILE = 'tokenizer.json'
/** Words, and parts of long ones, between two pauses. */
const PARTS_PER_PAUSE = 1024

/** Text to token ids and back, without special tokens of its own. */
export interface Tokenizer {
  /** Path of the `tokenizer.json`, for errors. */
  readonly file: string
  /** One more than the largest id, added tokens included. */
  readonly vocabSize: number
  /** One more than the largest id that is not an added token's. */
  readonly learnedVocabSize: number
  /** Tokens that mark something, such as the end of a text, rather than being text. */
  readonly specialIds: ReadonlySet<number>
  /** What the file's post-processor puts in front of a text; {@link encode} does not. */
  readonly leadingIds: readonly number[]
  /**
   * The ids of a whole text. No token is put before or after it; special tokens written out in it are recognised.
   *
   * @throws TextError where the text has a word that the tokenizer has no ids for, not even an unknown token's
   */
  encode(text: string): Int32Array
  /**
   * The same for texts of megabytes: other work and Ctrl-C come through on the way, but for the normalizing of the whole
   * at its start, which takes tenths of a second for 4 MB.
   *
   * @throws AbortedError when `signal` fires
   */
  encodeInTurns(text: string, signal?: AbortSignal): Promise<Int32Array>
  /**
   * The same for texts that may be far too long: undefined where there are more than `most` ids, as soon as that is
   * certain.
   */
  encodeAtMost(text: string, most: number, signal?: AbortSignal): Promise<Int32Array | undefined>
  /** The text of some ids. @throws TextError for an id that is not in the vocabulary */
  decode(ids: Int32Array): string
  /**
   * The bytes that one id adds to a text it stands within: a part of a character where it is no more, and with the space
   * that it begins with. @throws TextError as {@link decode}
   */
  bytesOf(id: number): Uint8Array
}

/**
 * Loads the tokenizer of a Hugging Face model folder from its `tokenizer.json`, or the one in a GGUF file. The ids are
 * those of Hugging Face's own library for that file, without special tokens put before or after and nothing cut off or
 * filled up.
 *
 * @throws CheckpointError when `tokenizer.json` is missing or damaged, naming the field
 * @throws UnsupportedError for a rule that is not there, naming the field and what is supported
 */
export async function loadTokenizer(folder: ModelPlace): Promise<Tokenizer> {
  requireModel('folder', folder)
  const file = fileIn({ place: placeOf(folder) }, TOKENIZER_FILE)
  return createTokenizer(readSection(await readJson(folder, file), file), file)
}

/**
 * Checks that a model knows every token of a tokenizer. Added tokens beyond the model's vocabulary (a padding token,
 * usually) are let through: texts do not use them, and an id that does occur is checked when it is looked up.
 *
 * @throws UnsupportedError naming both sizes
 */
export function checkVocabulary(tokenizer: Tokenizer, config: { readonly vocabSize: number }): void {
  if (tokenizer.learnedVocabSize <= config.vocabSize) return
  throw new UnsupportedError(
    `${tokenizer.file}: has token ids up to ${tokenizer.learnedVocabSize - 1}, but the model's vocabulary has ` +
      `${config.vocabSize} tokens (vocab_size in config.json): the tokenizer is of another vocabulary. ` +
      'Use the tokenizer.json that belongs to the model',
  )
}

async function readJson(model: ModelPlace, file: string): Promise<unknown> {
  let text: string | undefined
  try {
    text = await readModelText(model, TOKENIZER_FILE)
  } catch (cause) {
    if (cause instanceof GptvqError) throw cause
    throw new CheckpointError(`${file}: cannot be read (${reason(cause)})`, { cause })
  }
  if (text === undefined) {
    throw new CheckpointError(
      `${file}: no such file; expected the tokenizer in the format of Hugging Face. A folder with tokenizer.model ` +
        'alone has to be saved once by AutoTokenizer(...).save_pretrained of transformers',
    )
  }
  try {
    requireShallow(text, file)
    return JSON.parse(text)
  } catch (cause) {
    if (cause instanceof GptvqError) throw cause
    throw new CheckpointError(`${file}: is not JSON (${reason(cause)}); the file is damaged`, { cause })
  }
}

function createTokenizer(definition: Section, file: string): Tokenizer {
  const model = readModel(definition, file)
  const normalize = readNormalizer(definition.part('normalizer'))
  const added = readAddedTokens(definition, model, normalize)
  const preTokenize = readPreTokenizer(definition.part('pre_tokenizer'))
  const decode = readDecoder(definition.part('decoder'))
  const spelledBytes = readByteReader(definition.part('decoder'))
  const split = addedTokenSplitter(added, normalize)
  const tokens = [...model.tokens]
  for (const { id, content } of added) tokens[id] = content

  // added tokens as their ids, the rest as the words that the model sees one by one
  function* words(text: string): Generator<number | string> {
    for (const part of split(text)) {
      if (typeof part === 'number') yield part
      else for (const word of preTokenize(part)) yield word.text
    }
  }
  const pushIds = (ids: number[], word: number | string) => {
    if (typeof word === 'number') ids.push(word)
    else for (const id of model.encode(word)) ids.push(id)
  }

  const tokenOf = (id: number): string => {
    const token = tokens[id]
    if (token === undefined) throw new TextError(`${file}: has no token with the id ${id}`)
    return token
  }
  const encodeAtMost = async (text: string, most: number, signal?: AbortSignal) => {
    const ids: number[] = []
    const pause = pacer(signal)
    let count = 0
    for (const word of words(text)) {
      const room = most - ids.length
      // a part can be megabytes too, whose merging no other work comes through
      if (typeof word === 'string' && word.length > room && model.surelyExceeds(word, room)) return undefined
      for (const part of typeof word === 'number' ? [[word]] : model.encodeParts(word)) {
        if (count++ % PARTS_PER_PAUSE === 0) await pause()
        for (const id of part) ids.push(id)
        if (ids.length > most) return undefined
      }
    }
    return Int32Array.from(ids)
  }

  return {
    file,
    vocabSize: tokens.length,
    specialIds: new Set(added.filter(({ special }) => special).map(({ id }) => id)),
    leadingIds: readLeadingIds(definition.part('post_processor')),
    learnedVocabSize: learnedSize(tokens.length, new Set(added.map(({ id }) => id))),
    encode: (text) => {
      const ids: number[] = []
      for (const word of words(text)) pushIds(ids, word)
      return Int32Array.from(ids)
    },
    encodeInTurns: async (text, signal) => (await encodeAtMost(text, Number.POSITIVE_INFINITY, signal))!,
    encodeAtMost,
    decode: (ids) => decode(Array.from(ids, tokenOf)).join(''),
    bytesOf: (id) => {
      const token = tokenOf(id)
      const spelled = spelledBytes(token)
      if (spelled !== undefined) return spelled
      // behind itself it has the space that the first of a text may lose
      const alone = decode([token]).join('')
      const twice = decode([token, token]).join('')
      return new TextEncoder().encode(twice.startsWith(alone) ? twice.slice(alone.length) : alone)
    },
  }
}

function learnedSize(size: number, added: ReadonlySet<number>): number {
  let learned = size
  while (learned > 0 && added.has(learned - 1)) learned--
  return learned
}

function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}
