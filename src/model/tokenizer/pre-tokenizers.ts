import { byteLetters } from './byte-letters.js'
import type { Piece } from './normalizers.js'
import { findSpans, literally, readPattern, type Span, whitespace, wordCharacter } from './pattern.js'
import type { Section } from './section.js'

/** Splits a piece into the words that the model sees one by one, each when it is asked for: texts can be long. */
export type PreTokenizer = (piece: Piece) => Iterable<Piece>

/** The pre-tokenizer of a tokenizer.json; without one a piece is one word. */
export function readPreTokenizer(section: Section | undefined): PreTokenizer {
  if (section === undefined) return (piece) => [piece]
  return section.choice('type', readers)(section)
}

// the rule of GPT-2
const byteLevelWords =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu
const spaces = new RegExp(whitespace, 'gu')
const punctuation = /[\p{P}!-/:-@[-`{-~]/gu

const readers: Record<string, (section: Section) => PreTokenizer> = {
  Whitespace: () =>
    splitting(new RegExp(`[${wordCharacter}]+|[^${wordCharacter}${whitespace}]+`, 'gu'), 'Removed', true),
  WhitespaceSplit: () => splitting(spaces, 'Removed'),
  BertPreTokenizer: () => chain([splitting(spaces, 'Removed'), splitting(punctuation, 'Isolated')]),
  Punctuation: (section) => splitting(punctuation, readBehavior(section, 'Isolated')),
  Digits: (section) => splitting(/\p{N}/gu, section.flag('individual_digits') ? 'Isolated' : 'Contiguous'),
  Split: (section) => {
    return splitting(readPattern(section), readBehavior(section), section.flag('invert'))
  },
  CharDelimiterSplit: (section) => splitting(literally(section.character('delimiter')), 'Removed'),
  FixedLength: (section) => {
    const length = section.count('length')
    if (length < 1 || length > 65535) section.fail('length', 'a whole number from 1 to 65535')
    return splitting(new RegExp(`[^]{1,${length}}`, 'gu'), 'Isolated')
  },
  ByteLevel: byteLevel,
  Metaspace: metaspace,
  Sequence: (section) => chain(section.parts('pretokenizers').map(readPreTokenizer)),
}

function chain(steps: readonly PreTokenizer[]): PreTokenizer {
  return (piece) => steps.reduce<Iterable<Piece>>(eachThrough, [piece])
}

function* eachThrough(pieces: Iterable<Piece>, step: PreTokenizer): Generator<Piece> {
  for (const piece of pieces) yield* step(piece)
}

/** What becomes of the matches of a pattern: out, words of their own, or joined to a neighbour. */
const behaviors = ['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'] as const

type Behavior = (typeof behaviors)[number]

function readBehavior(section: Section, fallback?: Behavior): Behavior {
  const found = section.string('behavior', fallback)
  return behaviors.find((each) => each === found) ?? section.refuse('behavior', behaviors.join(', '))
}

function splitting(pattern: RegExp, behavior: Behavior, inverted = false): PreTokenizer {
  const joins = joining[behavior]?.(inverted)
  const keeps = behavior === 'Removed' ? (span: Span) => span.match === inverted : () => true
  return function* (piece) {
    const spans = findSpans(piece.text, pattern)
    for (const { start, end, match } of joins ? joinSpans(spans, joins) : spans) {
      if (start < end && keeps({ start, end, match })) {
        yield { text: piece.text.slice(start, end), first: piece.first && start === 0 }
      }
    }
  }
}

/** Whether a span and the one after it are one word. */
type Joins = (before: Span, after: Span) => boolean

const joining: Partial<Record<Behavior, (inverted: boolean) => Joins>> = {
  Contiguous: () => (before, after) => before.match === after.match,
  MergedWithPrevious: (inverted) => (before, after) =>
    after.match !== inverted && before.match !== after.match,
  MergedWithNext: (inverted) => (before, after) => before.match !== inverted && before.match !== after.match,
}

function* joinSpans(spans: Iterable<Span>, joins: Joins): Generator<Span> {
  let before: Span | undefined
  let start = 0
  for (const span of spans) {
    if (before !== undefined && !joins(before, span)) {
      yield { start, end: before.end, match: before.match }
      start = span.start
    }
    before = span
  }
  if (before !== undefined) yield { start, end: before.end, match: before.match }
}

function byteLevel(section: Section): PreTokenizer {
  const prefix = section.flag('add_prefix_space')
  const words = section.flag('use_regex', true)
    ? splitting(byteLevelWords, 'Isolated')
    : (piece: Piece): Iterable<Piece> => [piece]
  return (piece) => {
    const text = prefix && !piece.text.startsWith(' ') ? ` ${piece.text}` : piece.text
    return lettered(words({ ...piece, text }))
  }
}

function* lettered(words: Iterable<Piece>): Generator<Piece> {
  for (const word of words) yield { ...word, text: byteLetters(word.text) }
}

const prependSchemes = ['always', 'first', 'never'] as const

function metaspace(section: Section): PreTokenizer {
  const replacement = section.character('replacement')
  const scheme = readPrependScheme(section)
  const words = section.flag('split', true)
    ? splitting(literally(replacement), 'MergedWithNext')
    : (piece: Piece) => [piece]
  return (piece) => {
    const text = piece.text.replaceAll(' ', () => replacement)
    const prepend = scheme === 'always' || (scheme === 'first' && piece.first)
    return words({ ...piece, text: prepend && !text.startsWith(replacement) ? replacement + text : text })
  }
}

/** `prepend_scheme`, and in older files `add_prefix_space`, which must not contradict it. */
export function readPrependScheme(section: Section): (typeof prependSchemes)[number] {
  const found = section.string('prepend_scheme', 'always')
  const scheme = prependSchemes.find((each) => each === found)
  if (scheme === undefined) return section.refuse('prepend_scheme', prependSchemes.join(', '))
  if (section.has('add_prefix_space') && !section.flag('add_prefix_space') && scheme !== 'never') {
    section.fail('add_prefix_space', `true beside prepend_scheme "${scheme}"`)
  }
  return scheme
}
