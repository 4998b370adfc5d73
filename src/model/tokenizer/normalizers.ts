import { byteLetters } from './byte-letters.js'
import { readCharacterMap } from './character-map.js'
import { findSpans, readPattern, replaceMatches, whitespace } from './pattern.js'
import type { Section } from './section.js'

/** A stretch of text on its way to the model. */
export interface Piece {
  readonly text: string
  /** Whether it begins where the whole text begins; some rules treat the first word of a text differently. */
  readonly first: boolean
}

/** Rewrites a piece before it is split. */
export type Normalizer = (piece: Piece) => Piece

/** The normalizer of a tokenizer.json; without one a piece stays as it is. */
export function readNormalizer(section: Section | undefined): Normalizer {
  if (section === undefined) return (piece) => piece
  return section.choice('type', readers)(section)
}

const readers: Record<string, (section: Section) => Normalizer> = {
  NFC: () => rewriting((text) => text.normalize('NFC')),
  NFD: () => rewriting((text) => text.normalize('NFD')),
  NFKC: () => rewriting((text) => text.normalize('NFKC')),
  NFKD: () => rewriting((text) => text.normalize('NFKD')),
  Lowercase: () => rewriting(lowercase),
  Strip: (section) => strip(section.flag('strip_left'), section.flag('strip_right')),
  StripAccents: () => removing(/\p{M}/gu),
  Nmt: () => chain([removing(nmtControls), rewriting((text) => text.replace(nmtSpaces, ' '))]),
  ByteLevel: () => rewriting(byteLetters),
  Precompiled: (section) => rewriting(readCharacterMap(section)),
  Prepend: (section) => {
    const prefix = section.string('prepend')
    return rewriting((text) => (text === '' ? '' : prefix + text))
  },
  Replace: replace,
  BertNormalizer: bert,
  Sequence: (section) => chain(section.parts('normalizers').map(readNormalizer)),
}

function chain(steps: readonly Normalizer[]): Normalizer {
  return (piece) => steps.reduce((each, step) => step(each), piece)
}

function rewriting(rewrite: (text: string) => string): Normalizer {
  return ({ text, first }) => ({ text: rewrite(text), first })
}

/** Takes characters out; what follows those at the start no longer begins where the text does. */
function removing(characters: RegExp): Normalizer {
  return ({ text, first }) => ({
    text: text.replace(characters, ''),
    first: first && text.search(characters) !== 0,
  })
}

/** Character by character: JavaScript would write a sigma otherwise at the end of a word. */
function lowercase(text: string): string {
  return /\u03a3/.test(text)
    ? Array.from(text, (letter) => letter.toLowerCase()).join('')
    : text.toLowerCase()
}

function strip(left: boolean, right: boolean): Normalizer {
  const steps: Normalizer[] = []
  if (left) steps.push(removing(new RegExp(`^${whitespace}+`, 'gu')))
  if (right) steps.push(rewriting((text) => trimEnd(text)))
  return chain(steps)
}

const space = new RegExp(whitespace, 'u')

/** By hand: an expression would look at every run of spaces for the end of the text. */
function trimEnd(text: string): string {
  let end = text.length
  while (end > 0 && space.test(text[end - 1])) end--
  return text.slice(0, end)
}

function replace(section: Section): Normalizer {
  const pattern = readPattern(section)
  const content = section.string('content')
  return ({ text, first }) => {
    const [span] = first ? findSpans(text, pattern) : []
    // what is put in counts as beginning where the last character that it replaces did
    const kept = span?.match !== true || (content !== '' && Array.from(text.slice(0, span.end)).length <= 1)
    return { text: replaceMatches(text, pattern, content), first: first && kept }
  }
}

const nmtControls = /(?![\0\t\n\f\r\x80-\x8e\x90-\x9e])\p{Cc}/gu
const nmtSpaces = /[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g

const ideographs =
  /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu

function bert(section: Section): Normalizer {
  const lower = section.flag('lowercase')
  const steps: Normalizer[] = []
  if (section.flag('clean_text')) {
    steps.push(removing(/(?![\t\n\r])[\0\ufffd\p{Cc}\p{Cf}\p{Co}\p{Cs}]/gu))
    steps.push(rewriting((text) => text.replace(new RegExp(whitespace, 'gu'), ' ')))
  }
  if (section.flag('handle_chinese_chars')) {
    steps.push(rewriting((text) => text.replace(ideographs, ' $& ')))
  }
  if (section.has('strip_accents') ? section.flag('strip_accents') : lower) {
    steps.push(
      rewriting((text) => text.normalize('NFD')),
      removing(/\p{Mn}/gu),
    )
  }
  if (lower) steps.push(rewriting(lowercase))
  return chain(steps)
}
