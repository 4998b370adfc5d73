import type { Tokenizer } from '@huggingface/tokenizers'

/** Words longer than this many UTF-16 units are cut. */
const longWord = 256

/**
 * Makes byte-pair encoding of long words fast. A tokenizer without a splitting rule (Llama 2 and its kin) sees a whole
 * text as one word, which takes it minutes and gigabytes where many short words take seconds.
 *
 * The ids stay the same: a word is cut only between two characters that stand side by side in no merge of the
 * vocabulary, so that no token can reach over the cut. Tokenizers of other kinds are left as they are.
 */
export function cutLongWords(tokenizer: Tokenizer, definition: object): void {
  const merges = mergesWithoutExceptions(definition)
  if (merges === undefined) return
  const inner = tokenizer.pre_tokenizer
  let joined: Set<string> | undefined
  const cutting = (text: string, options?: unknown): string[] => {
    const words: string[] = inner === null ? [text] : inner(text, options)
    return words.flatMap((word) => {
      if (word.length <= longWord) return [word]
      joined ??= joinedPairs(merges)
      return cutUnjoined(word, joined)
    })
  }
  // the tokenizer only ever calls its pre-tokenizer, never its methods
  tokenizer.pre_tokenizer = cutting as unknown as Tokenizer['pre_tokenizer']
}

/** The merged strings of a plain byte-pair encoding; undefined for a model whose words mean more than their merges. */
function mergesWithoutExceptions(definition: object): string[] | undefined {
  const { model } = definition as { model?: Record<string, unknown> }
  if (model?.type !== 'BPE' || !Array.isArray(model.merges)) return undefined
  if (model.ignore_merges || model.end_of_word_suffix || model.continuing_subword_suffix) return undefined
  return model.merges.map((merge: unknown) =>
    (typeof merge === 'string' ? merge.split(' ', 2) : (merge as string[])).join(''),
  )
}

/** Pairs of characters (code points) that stand side by side in some merged string. */
export function joinedPairs(merged: readonly string[]): Set<string> {
  const pairs = new Set<string>()
  for (const text of merged) {
    let previous = ''
    for (const character of text) {
      if (previous !== '') pairs.add(previous + character)
      previous = character
    }
  }
  return pairs
}

/** Cuts `word` between every two characters that are not a pair of `joined`; the parts concatenate to `word`. */
export function cutUnjoined(word: string, joined: ReadonlySet<string>): string[] {
  const parts: string[] = []
  let start = 0
  let at = 0
  let previous = ''
  for (const character of word) {
    if (previous !== '' && !joined.has(previous + character)) {
      parts.push(word.slice(start, at))
      start = at
    }
    at += character.length
    previous = character
  }
  if (start < word.length) parts.push(word.slice(start))
  return parts
}
