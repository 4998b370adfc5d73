/** Words of up to this many UTF-16 units are not cut. */
const longWord = 64

/**
 * What cuts long words into parts that can be encoded one by one. A tokenizer without a splitting rule (Llama 2 and its
 * kin) sees a whole text as one word; its words as parts of their own are soon known, and far faster than one long word.
 *
 * The ids stay the same: a word is cut only between two letters that no merge brings together, so that no token can
 * reach over the cut.
 *
 * @param settled whether a letter becomes the same symbols whatever stands beside it; unknown letters may not
 * @returns the parts of a word; undefined for a word that need not be cut
 */
export function wordCutter(
  merges: readonly (readonly [left: string, right: string])[],
  settled: (letter: string) => boolean,
): (word: string) => Iterable<string> | undefined {
  let joined: Set<string> | undefined
  return (word) => {
    if (word.length <= longWord) return undefined
    joined ??= joinedPairs(merges)
    return cutUnjoined(word, joined, settled)
  }
}

/** Pairs of letters (code points) that some merge brings together: the last of its left and the first of its right. */
export function joinedPairs(merges: readonly (readonly [left: string, right: string])[]): Set<string> {
  return new Set(merges.map(([left, right]) => lastLetter(left) + firstLetter(right)))
}

function firstLetter(text: string): string {
  return text === '' ? '' : String.fromCodePoint(text.codePointAt(0)!)
}

function lastLetter(text: string): string {
  const last = text.slice(-2)
  return last.length === 2 && last.codePointAt(0)! > 0xffff ? last : text.slice(-1)
}

/**
 * Cuts `word` between every two settled letters that are not a pair of `joined`; the parts concatenate to `word`. It looks
 * no further than the parts that are asked for.
 */
export function* cutUnjoined(
  word: string,
  joined: ReadonlySet<string>,
  settled: (letter: string) => boolean,
): Generator<string, void> {
  let start = 0
  let at = 0
  let previous = ''
  for (const letter of word) {
    if (previous !== '' && !joined.has(previous + letter) && settled(letter) && settled(previous)) {
      yield word.slice(start, at)
      start = at
    }
    at += letter.length
    previous = letter
  }
  if (start < word.length) yield word.slice(start)
}
