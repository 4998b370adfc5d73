import type { Section } from '../section.js'
import { type Model, readVocabulary, remembering, unknownWord } from './vocabulary.js'

/** WordPiece: from the start of a word the longest token, then the longest that continues it, and so on. */
export function readWordPiece(section: Section, file: string): Model {
  const vocabulary = readVocabulary(section)
  const prefix = section.string('continuing_subword_prefix', '##')
  const most = section.count('max_input_chars_per_word', 100)
  const unknown = unknownReader(section, vocabulary.ids, '[UNK]', file)
  const encode = (word: string): number[] => {
    const letters = Array.from(word)
    if (letters.length > most) return [unknown(word)]
    const ids: number[] = []
    for (let start = 0; start < letters.length; ) {
      const lead = start > 0 ? prefix : ''
      let end = letters.length
      while (end > start && !vocabulary.ids.has(lead + letters.slice(start, end).join(''))) end--
      if (end === start) return [unknown(word)]
      ids.push(vocabulary.ids.get(lead + letters.slice(start, end).join(''))!)
      start = end
    }
    return ids
  }
  return wholeWords(vocabulary, remembering(encode))
}

/** WordLevel: a word is a token, or unknown. */
export function readWordLevel(section: Section, file: string): Model {
  const vocabulary = readVocabulary(section)
  const unknown = unknownReader(section, vocabulary.ids, '<unk>', file)
  return wholeWords(vocabulary, (word) => [vocabulary.ids.get(word) ?? unknown(word)])
}

function wholeWords(vocabulary: Pick<Model, 'ids' | 'tokens' | 'size'>, encode: Model['encode']): Model {
  return { ...vocabulary, encode, encodeParts: (word) => [encode(word)], surelyExceeds: () => false }
}

function unknownReader(
  section: Section,
  ids: ReadonlyMap<string, number>,
  fallback: string,
  file: string,
): (word: string) => number {
  const id = ids.get(section.string('unk_token', fallback))
  return (word) => {
    if (id !== undefined) return id
    throw unknownWord(file, word)
  }
}
