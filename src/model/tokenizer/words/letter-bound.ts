/**
 * Makes what tells that a word has more than so many ids, without encoding it. Each letter counts as one over the letters
 * of the longest token that has it. The letters of any token then make up one at most, so that those of a word make up
 * its tokens at most.
 *
 * @param tokens the vocabulary
 * @param stays whether a letter is in some token of its word, rather than dropped or fused with unknown ones beside it
 */
export function letterBound(
  tokens: Iterable<string>,
  stays: (letter: string) => boolean,
): (word: string, most: number) => boolean {
  let longest: Map<string, number> | undefined
  let ofAll = 1
  return (word, most) => {
    longest ??= longestByLetter(tokens)
    if (ofAll === 1) for (const letters of longest.values()) ofAll = Math.max(ofAll, letters)
    // the first and the last letter may be spelled otherwise, with an affix; and sums are rounded
    const limit = most + 3
    let sum = 0
    for (const letter of word) {
      // a letter of no token becomes bytes or an unknown token, which may be merged too
      if (stays(letter)) sum += 1 / (longest.get(letter) ?? ofAll)
      if (sum > limit) return true
    }
    return false
  }
}

/** The letters of the longest token that has a letter. */
function longestByLetter(tokens: Iterable<string>): Map<string, number> {
  const longest = new Map<string, number>()
  for (const token of tokens) {
    const letters = Array.from(token)
    for (const letter of letters) longest.set(letter, Math.max(letters.length, longest.get(letter) ?? 0))
  }
  return longest
}
