/**
 * The merges of a SentencePiece BPE vocabulary, which has scores instead: of all neighbours that make a token, the pair
 * whose token has the highest score is merged first.
 *
 * @param mergeable whether the token of this id is made of others, and others of it
 * @returns pairs, the first to be merged first
 */
export function mergesOfScores(
  tokens: readonly string[],
  scores: readonly number[],
  mergeable: (id: number) => boolean,
): [string, string][] {
  const ids = new Map<string, number>()
  for (const [id, token] of tokens.entries()) if (mergeable(id) && !ids.has(token)) ids.set(token, id)
  const found: { readonly left: number; readonly right: number; readonly score: number }[] = []
  for (const [token, id] of ids) {
    for (let at = nextLetter(token, 0); at < token.length; at = nextLetter(token, at)) {
      const left = ids.get(token.slice(0, at))
      const right = ids.get(token.slice(at))
      if (left !== undefined && right !== undefined) found.push({ left, right, score: scores[id] })
    }
  }
  found.sort((a, b) => b.score - a.score || a.left - b.left || a.right - b.right)
  return found.map(({ left, right }) => [tokens[left], tokens[right]])
}

function nextLetter(text: string, at: number): number {
  return at + (text.codePointAt(at)! > 0xffff ? 2 : 1)
}
