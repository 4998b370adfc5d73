import { byteLetters } from './byte-letters.js'
import type { Piece } from './normalizers.js'
import { findSpans, literally, readPattern, type Span, whitespace, wordCharacter } from './pattern.js'
import type { Section } from './section.js'

/** Splits a piece into the words that the model sees one by one. */
export type PreTokenizer = (piece: Piece) => Piece[]

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
  return (piece) => steps.reduce((pieces, step) => pieces.flatMap((each) => step(each)), [piece])
}

/** What becomes of the matches of a pattern: out, words of their own, or joined to a neighbour. */
const behaviors = ['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'] as const

type Behavior = (typeof behaviors)[number]

function readBehavior(section: Section, fallback?: Behavior): Behavior {
  const found = section.string('behavior', fallback)
  return behaviors.find((each) => each === found) ?? section.refuse('behavior', behaviors.join(', '))
}

function splitting(pattern: RegExp, behavior: Behavior, inverted = false): PreTokenizer {
  return (piece) => {
    const spans = findSpans(piece.text, pattern)
    return joinSpans(spans, behavior, inverted)
      .filter(({ start, end }) => start < end)
      .map(({ start, end }) => ({ text: piece.text.slice(start, end), first: piece.first && start === 0 }))
  }
}

function joinSpans(spans: readonly Span[], behavior: Behavior, inverted: boolean): Stretch[] {
  switch (behavior) {
    case 'Isolated':
      return spans as Span[]
    case 'Removed':
      return spans.filter(({ match }) => match === inverted)
    case 'Contiguous':
      return joinTo(spans, (span, before) => span.match === before?.match)
    case 'MergedWithPrevious':
      return joinTo(spans, (span, before) => span.match !== inverted && before?.match !== span.match)
    case 'MergedWithNext':
      return joinTo(
        spans.toReversed(),
        (span, after) => span.match !== inverted && after?.match !== span.match,
      ).reverse()
  }
}

interface Stretch {
  start: number
  end: number
}

/** Joins a span to the one before it, as given, where `joins` says so. */
function joinTo(spans: readonly Span[], joins: (span: Span, before: Span | undefined) => boolean): Stretch[] {
  const joined: Stretch[] = []
  spans.forEach((span, index) => {
    const last = joined.at(-1)
    if (last !== undefined && joins(span, spans[index - 1])) {
      last.start = Math.min(last.start, span.start)
      last.end = Math.max(last.end, span.end)
    } else joined.push({ start: span.start, end: span.end })
  })
  return joined
}

function byteLevel(section: Section): PreTokenizer {
  const prefix = section.flag('add_prefix_space')
  const words = section.flag('use_regex', true)
    ? splitting(byteLevelWords, 'Isolated')
    : (piece: Piece) => [piece]
  return (piece) => {
    const text = prefix && !piece.text.startsWith(' ') ? ` ${piece.text}` : piece.text
    return words({ ...piece, text }).map((word) => ({ ...word, text: byteLetters(word.text) }))
  }
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
