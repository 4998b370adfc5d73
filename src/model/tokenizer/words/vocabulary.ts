import { TextError } from '../../../common/errors.js'
import { isCount, type Section } from '../section.js'

/** What a model makes of words. */
export interface Model {
  /** Ids by token. */
  readonly ids: ReadonlyMap<string, number>
  /** Tokens by id; there may be holes. */
  readonly tokens: readonly (string | undefined)[]
  /** How many tokens it counts, holes left out. */
  readonly size: number
  /** The ids of a word, which is not empty. @throws TextError for a word it has no ids for */
  encode(word: string): readonly number[]
  /** The same one after another by parts of the word: one can be a text of megabytes, of which a start may do. */
  encodeParts(word: string): Iterable<readonly number[]>
  /** Whether a word is certain to have more than so many ids, by its letters alone; false where that is open. */
  surelyExceeds(word: string, most: number): boolean
}

/** The field `vocab` of a model that has ids by token. */
export function readVocabulary(section: Section): Pick<Model, 'ids' | 'tokens' | 'size'> {
  const found = section.raw('vocab')
  if (typeof found !== 'object' || found === null || Array.isArray(found)) {
    section.fail('vocab', 'an object of ids by token')
  }
  const ids = new Map<string, number>()
  const tokens: string[] = []
  for (const [token, id] of Object.entries(found as Record<string, unknown>)) {
    if (!isCount(id) || id >= mostTokens) {
      section.fail('vocab', `ids below ${mostTokens}, but ${JSON.stringify(token)} has ${JSON.stringify(id)}`)
    }
    ids.set(token, id)
    tokens[id] = token
  }
  if (ids.size === 0) section.fail('vocab', 'at least one token')
  return { ids, tokens, size: ids.size }
}

/** Far more than any vocabulary has; a list that long can still be made. */
const mostTokens = 2 ** 22

/** What is thrown for a word, or a part of one, that has no id and for which no unknown token is in the vocabulary. */
export function unknownWord(file: string, word: string): TextError {
  return new TextError(`${file}: has no id for ${JSON.stringify(word)}, and no unknown token`)
}

/** The names of the 256 tokens that stand for bytes, where letters without a token are spelled by them. */
const byteNames: readonly string[] = Array.from(
  { length: 256 },
  (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
)

const encoder = new TextEncoder()

/** The ids of the tokens for the bytes of a text; undefined where one has none. */
export function byteIds(text: string, ids: ReadonlyMap<string, number>): number[] | undefined {
  const found: number[] = []
  for (const byte of encoder.encode(text)) {
    const id = ids.get(byteNames[byte])
    if (id === undefined) return undefined
    found.push(id)
  }
  return found
}

/** Whether there is a token for every byte. */
export function hasAllBytes(ids: ReadonlyMap<string, number>): boolean {
  return byteNames.every((name) => ids.has(name))
}

/** Remembers what a function gave for short words, as far as there is room. */
export function remembering(
  encode: (word: string) => readonly number[],
): (word: string) => readonly number[] {
  const known = new Map<string, readonly number[]>()
  return (word) => {
    if (word.length > longestKnown) return encode(word)
    let ids = known.get(word)
    if (ids === undefined) {
      ids = encode(word)
      // starting anew costs little, and what is frequent is soon back
      if (known.size >= mostKnown) known.clear()
      known.set(word, ids)
    }
    return ids
  }
}

const longestKnown = 64
const mostKnown = 65536
