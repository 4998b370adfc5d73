import { TextError } from '../../../common/errors.js'
import type { Section } from '../section.js'
import { wordCutter } from '../word-cuts.js'
import { letterBound } from './letter-bound.js'
import { createMergeQueue, positions } from './merge-queue.js'
import { createPairTable, type PairTable } from './pair-table.js'
import { byteIds, hasAllBytes, type Model, readVocabulary, remembering, unknownWord } from './vocabulary.js'

/** Byte-pair encoding: the letters of a word, merged by rank. */
export function readBpe(section: Section, file: string): Model {
  if (section.has('dropout') && section.raw('dropout') !== 0) section.refuse('dropout', 'null, 0')
  const vocabulary = readVocabulary(section)
  const affixes = {
    prefix: section.string('continuing_subword_prefix', ''),
    suffix: section.string('end_of_word_suffix', ''),
  }
  const pairs = readMerges(section)
  const merges = readRanks(section, pairs, vocabulary.ids, affixes.prefix)
  const symbols = symbolReader(section, vocabulary.ids, affixes, file)
  const merge = merger(merges, file)
  const encodeWhole = remembering((word) => merge(symbols(word)))
  const settled = settledLetters(section, pairs, vocabulary.ids)
  const cut = affixes.prefix || affixes.suffix ? undefined : wordCutter(pairs, settled)
  const keepsUnknown = section.has('unk_token') && !section.flag('fuse_unk', false)
  const stays = (letter: string) => keepsUnknown || settled(affixes.prefix + letter)
  const whole = section.flag('ignore_merges', false)
  function* encodeParts(word: string) {
    const id = whole ? vocabulary.ids.get(word) : undefined
    if (id !== undefined) yield [id]
    else for (const part of cut?.(word) ?? [word]) yield encodeWhole(part)
  }
  const encode = (word: string): readonly number[] => {
    const ids: number[] = []
    for (const part of encodeParts(word)) for (const id of part) ids.push(id)
    return ids
  }
  return { ...vocabulary, encode, encodeParts, surelyExceeds: letterBound(vocabulary.ids.keys(), stays) }
}

type MergePair = readonly [left: string, right: string]

function readMerges(section: Section): MergePair[] {
  const found = section.raw('merges')
  if (!Array.isArray(found)) return section.fail('merges', 'a list')
  const lines: unknown[] = found
  return lines.flatMap((merge, index) => {
    // files of old begin with the version of the format
    if (typeof merge === 'string' && merge.startsWith('#version')) return []
    const pair: unknown = typeof merge === 'string' ? merge.split(' ') : merge
    if (!isPair(pair))
      return section.fail('merges', `two tokens in each; number ${index} is ${JSON.stringify(merge)}`)
    return [pair]
  })
}

function isPair(value: unknown): value is [string, string] {
  return Array.isArray(value) && value.length === 2 && value.every((token) => typeof token === 'string')
}

interface Merges {
  /** The rank of a pair of ids; the lowest is merged first. */
  readonly ranks: PairTable
  /** The id that a merge of a rank gives. */
  readonly merged: Int32Array
}

function readRanks(
  section: Section,
  pairs: readonly MergePair[],
  ids: ReadonlyMap<string, number>,
  prefix: string,
): Merges {
  const ranks = createPairTable(pairs.length)
  const known = (token: string, rank: number) =>
    ids.get(token) ??
    section.fail(
      'merges',
      `tokens of the vocabulary, but ${JSON.stringify(token)} of number ${rank} is not in it`,
    )
  const merged = Int32Array.from(pairs, ([left, right], rank) => {
    ranks.set(known(left, rank), known(right, rank), rank)
    return known(left + right.slice(prefix.length), rank)
  })
  return { ranks, merged }
}

/** What tells letters that stay as they are, or become bytes that nothing merges, whatever stands beside them. */
function settledLetters(
  section: Section,
  pairs: readonly MergePair[],
  ids: ReadonlyMap<string, number>,
): (letter: string) => boolean {
  const spelled =
    section.flag('byte_fallback', false) &&
    hasAllBytes(ids) &&
    !pairs.some((pair) => pair.some((token) => /<0x[0-9A-F]{2}>/.test(token)))
  return (letter) => spelled || ids.has(letter)
}

/** The ids of the letters of a word, before any merge: as the reference has them, in its order. */
function symbolReader(
  section: Section,
  ids: ReadonlyMap<string, number>,
  { prefix, suffix }: { prefix: string; suffix: string },
  file: string,
): (word: string) => number[] {
  const unknown = section.optional('unk_token')
  const fuse = section.flag('fuse_unk', false)
  const byteFallback = section.flag('byte_fallback', false)
  const unknownId = unknown === undefined ? undefined : ids.get(unknown)
  return (word) => {
    const symbols: number[] = []
    let waiting: number | undefined
    let at = 0
    for (const letter of word) {
      const first = at === 0
      at += letter.length
      const spelled = (first ? '' : prefix) + letter + (at === word.length ? suffix : '')
      const id = ids.get(spelled)
      if (id !== undefined) {
        if (waiting !== undefined) symbols.push(waiting)
        waiting = undefined
        symbols.push(id)
        continue
      }
      const bytes = byteFallback ? byteIds(spelled, ids) : undefined
      if (bytes !== undefined) {
        // an unknown letter before them keeps waiting: the reference has them in that order
        symbols.push(...bytes)
      } else if (unknown !== undefined) {
        if (unknownId === undefined) throw unknownWord(file, letter)
        if (waiting !== undefined && !fuse) symbols.push(waiting)
        waiting = unknownId
      }
    }
    if (waiting !== undefined) symbols.push(waiting)
    return symbols
  }
}

/** Merges a list of symbols by rank, of equal ranks the leftmost, until no pair of neighbours has one. */
function merger({ ranks, merged }: Merges, file: string): (symbols: readonly number[]) => readonly number[] {
  const queue = createMergeQueue()
  return (given) => {
    if (given.length < 2) return given
    if (given.length > positions) {
      throw new TextError(
        `${file}: a word of the text has ${given.length} letters; at most ${positions} can be merged`,
      )
    }
    const symbols = Int32Array.from(given)
    // neighbours, by position; the one after the last is beyond the end
    const next = Int32Array.from(symbols, (_, at) => at + 1)
    const previous = Int32Array.from(symbols, (_, at) => at - 1)
    const offer = (left: number) => {
      const right = left < 0 ? symbols.length : next[left]
      if (right >= symbols.length) return
      const rank = ranks.get(symbols[left], symbols[right])
      if (rank >= 0) queue.push(rank, left)
    }
    for (let at = 0; at + 1 < symbols.length; at++) offer(at)
    while (queue.pop()) {
      const { rank, position } = queue
      // neighbours may have been merged since this was offered
      const right = next[position]
      if (symbols[position] < 0 || right >= symbols.length) continue
      if (ranks.get(symbols[position], symbols[right]) !== rank) continue
      symbols[position] = merged[rank]
      symbols[right] = -1
      next[position] = next[right]
      if (next[right] < symbols.length) previous[next[right]] = position
      offer(previous[position])
      offer(position)
    }
    return Array.from(symbols.filter((id) => id >= 0))
  }
}
