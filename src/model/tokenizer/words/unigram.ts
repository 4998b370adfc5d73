import type { Section } from '../section.js'
import { letterBound } from './letter-bound.js'
import { byteIds, type Model, remembering, unknownWord } from './vocabulary.js'

/** The unigram model of SentencePiece: the pieces of the best score that make up a word. */
export function readUnigram(section: Section, file: string): Model {
  const { tokens, scores } = readPieces(section)
  const ids = new Map(tokens.map((token, id) => [token, id]))
  const unknownId = section.has('unk_id') ? section.count('unk_id') : undefined
  if (unknownId !== undefined && unknownId >= tokens.length)
    section.fail('unk_id', `less than ${tokens.length}`)
  const byteFallback = section.flag('byte_fallback', false)
  const cut = bestPieces(ids, scores, unknownId, file)
  const encode = (word: string): number[] =>
    cut(word).flatMap((text) => {
      const id = ids.get(text)
      if (id !== undefined) return [id]
      // without an unknown token nothing unknown is cut out
      return (byteFallback ? byteIds(text, ids) : undefined) ?? [unknownId!]
    })
  const surelyExceeds = letterBound(tokens, (letter) => ids.has(letter))
  const remembered = remembering(encode)
  const encodeParts = (word: string) => [remembered(word)]
  return { ids, tokens, size: tokens.length, encode: remembered, encodeParts, surelyExceeds }
}

/** How much worse than the worst piece an unknown letter is. */
const unknownPenalty = 10

function readPieces(section: Section): { tokens: string[]; scores: number[] } {
  const found = section.raw('vocab')
  if (!Array.isArray(found) || found.length === 0)
    return section.fail('vocab', 'a list of pieces and their scores')
  const pieces: unknown[] = found
  const tokens: string[] = []
  const scores: number[] = []
  pieces.forEach((piece, id) => {
    const [token, score] = Array.isArray(piece) && piece.length === 2 ? (piece as unknown[]) : []
    if (typeof token !== 'string' || typeof score !== 'number' || !Number.isFinite(score)) {
      section.fail('vocab', `a piece and its score in each; number ${id} is ${JSON.stringify(piece)}`)
    }
    tokens.push(token)
    scores.push(score)
  })
  return { tokens, scores }
}

/** Cuts a word into the pieces of the best sum of scores; unknown letters side by side are one piece. */
function bestPieces(
  ids: ReadonlyMap<string, number>,
  scores: readonly number[],
  unknownId: number | undefined,
  file: string,
): (word: string) => string[] {
  const unknownScore =
    scores.reduce((least, score) => Math.min(least, score), Number.POSITIVE_INFINITY) - unknownPenalty
  const lengths = longestByStart(ids)
  return (word) => {
    // of the best way to each place: its score, where its last piece begins, and whether that is unknown
    const best = new Float64Array(word.length + 1)
    const starts = new Int32Array(word.length + 1).fill(-1)
    const unknown = new Uint8Array(word.length + 1)
    const offer = (start: number, end: number, score: number, id: number | undefined) => {
      const sum = best[start] + score
      if (starts[end] >= 0 && sum <= best[end]) return
      if (id === undefined) {
        throw unknownWord(file, word.slice(start, end))
      }
      best[end] = sum
      starts[end] = start
      unknown[end] = id === unknownId ? 1 : 0
    }
    let start = 0
    for (const letter of word) {
      const most = Math.min(word.length, start + (lengths.get(letter) ?? 0))
      let single = false
      for (let end = start + letter.length; end <= most; end++) {
        const id = ids.get(word.slice(start, end))
        if (id === undefined) continue
        offer(start, end, scores[id], id)
        single ||= end === start + letter.length
      }
      if (!single) offer(start, start + letter.length, unknownScore, unknownId)
      start += letter.length
    }
    return walkBack(word, starts, unknown)
  }
}

/** The length of the longest piece, in UTF-16 units, by the letter it begins with. */
function longestByStart(ids: ReadonlyMap<string, number>): Map<string, number> {
  const lengths = new Map<string, number>()
  for (const token of ids.keys()) {
    for (const letter of token) {
      lengths.set(letter, Math.max(token.length, lengths.get(letter) ?? 0))
      break
    }
  }
  return lengths
}

function walkBack(word: string, starts: Int32Array, unknown: Uint8Array): string[] {
  const pieces: string[] = []
  for (let end = word.length; end > 0; ) {
    let start = starts[end]
    if (unknown[end] === 1) while (start > 0 && unknown[start] === 1) start = starts[start]
    pieces.push(word.slice(start, end))
    end = start
  }
  return pieces.reverse()
}
