import type { GgufMetadata } from '../metadata.js'
import { readVocabulary, TokenKind, type Vocabulary } from './vocabulary.js'

/** What ends a message that another of the same speaker follows. */
const MESSAGE_END = '<|eom_id|>'

/** What ends a turn of a chat. */
const turnEnds: readonly string[] = [
  '<|eot_id|>',
  '<|im_end|>',
  '<|end|>',
  '<end_of_turn>',
  '<EOT>',
  '[EOT]',
  '<end_of_utterance>',
]

/** A tag of HTML in the vocabulary of Gemma: it ends an answer only as a control token. */
const TEXT_END_OR_TAG = '</s>'

/** Texts of tokens that end an answer in llama.cpp wherever they are in a vocabulary. */
const knownEnds: ReadonlySet<string> = new Set([
  ...turnEnds,
  MESSAGE_END,
  '<|endoftext|>',
  '<|end_of_text|>',
  TEXT_END_OR_TAG,
  '<eos>',
  '[EOS]',
])

/** Keys of tokens that end an answer: of a text, of a turn, of a message. */
const endKeys = ['eos', 'eot', 'eom'] as const

/**
 * The tokens that end an answer: those that the metadata name, and as in llama.cpp those that are known by their texts,
 * for many files do not name the token that ends a turn.
 */
export function endsOfGguf(metadata: GgufMetadata): readonly number[] {
  const ends = new Set<number>()
  for (const key of endKeys) {
    const id = metadata.optionalNumber(`tokenizer.ggml.${key}_token_id`)
    if (id !== undefined) ends.add(id)
  }
  if (!metadata.has('tokenizer.ggml.tokens')) return [...ends]
  const vocabulary = readVocabulary(metadata)
  for (const id of vocabulary.tokens.keys()) if (isKnownEnd(vocabulary, id)) ends.add(id)
  return [...ends]
}

/**
 * The keys that tell llama.cpp of the tokens that end an answer, and those it cannot be told of. What it knows by its text
 * needs no key.
 *
 * @param ends the first is that of a text
 */
export function endsAsKeys(
  [eos, ...others]: readonly number[],
  vocabulary: Vocabulary,
): { readonly keys: ReadonlyMap<(typeof endKeys)[number], number>; readonly untold: readonly number[] } {
  const textOf = (id: number) => vocabulary.tokens[id]
  const named = {
    eos,
    eot: others.find((id) => turnEnds.includes(textOf(id))),
    eom: others.find((id) => textOf(id) === MESSAGE_END),
  }
  const untold = others.filter((id) => id !== named.eot && id !== named.eom && !isKnownEnd(vocabulary, id))
  const keys = new Map<(typeof endKeys)[number], number>()
  for (const key of endKeys) {
    const id = named[key] ?? untold.shift()
    if (id !== undefined) keys.set(key, id)
  }
  return { keys, untold }
}

/** Of any kind, as in llama.cpp: files of Gemma 1.1 have `<end_of_turn>` as text. */
export function isKnownEnd({ tokens, kinds }: Vocabulary, id: number): boolean {
  const text = tokens[id]
  return knownEnds.has(text) && (text !== TEXT_END_OR_TAG || kinds[id] === TokenKind.control)
}
