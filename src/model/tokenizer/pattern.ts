import * as translator from '@huggingface/tokenizers'
import { spellFolds } from './case-folding.js'
import { findHardPart } from './pattern-check.js'
import type { Section } from './section.js'

/** A stretch of a text, in UTF-16 units: a match of a pattern, or what lies between two. */
export interface Span {
  readonly start: number
  readonly end: number
  readonly match: boolean
}

// exported, but its declaration does not resolve under Node's module rules
const { SplitPreTokenizer } = translator as unknown as {
  SplitPreTokenizer: new (config: object) => { readonly pattern: RegExp }
}

/** What Unicode calls white space: JavaScript's own `\s` has the byte order mark besides, and lacks U+0085. */
export const whitespace = '\\p{White_Space}'

/** Letters, marks, digits and connectors, as the `\w` of the reference has them. */
export const wordCharacter = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}'

/** The field `pattern`: `{"String": …}` as it stands, `{"Regex": …}` in the syntax of Oniguruma. */
export function readPattern(section: Section): RegExp {
  const pattern = section.part('pattern') ?? section.fail('pattern', 'an object with String or Regex')
  if (pattern.has('String')) return literally(pattern.string('String'))
  const source = pattern.string('Regex')
  const hard = findHardPart(source)
  if (hard !== undefined) pattern.refuse('Regex', `expressions without ${hard}`)
  const spelled = spellFolds(source) ?? pattern.refuse('Regex', 'expressions with only ASCII letters in (?i:')
  try {
    return new SplitPreTokenizer({ type: 'Split', pattern: { Regex: spelled } }).pattern
  } catch {
    // what cannot be translated is refused below
  }
  return pattern.refuse('Regex', 'expressions that JavaScript knows too')
}

export function literally(text: string): RegExp {
  return new RegExp(text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'), 'gu')
}

/**
 * Cuts a text into matches and what lies between them, in order; their lengths add up to the text's. Where it stands is
 * not left to the pattern: another text may be cut by it meanwhile.
 */
export function* findSpans(text: string, pattern: RegExp): Generator<Span> {
  let end = 0
  let lastMatch = -1
  for (let from = 0; from <= text.length; ) {
    pattern.lastIndex = from
    const found = pattern.exec(text)
    if (found === null) break
    const stop = found.index + found[0].length
    if (found[0] === '' && lastMatch === stop) {
      // the reference steps one character on at an empty match right after another one, wherever it then finds the next
      from += characterLength(text, from)
      continue
    }
    if (end < found.index) yield { start: end, end: found.index, match: false }
    yield { start: found.index, end: stop, match: true }
    from = stop
    end = stop
    lastMatch = stop
  }
  if (end < text.length) yield { start: end, end: text.length, match: false }
}

function characterLength(text: string, at: number): number {
  return (text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1
}

/** Puts `content`, as it stands, in the place of each match. */
export function replaceMatches(text: string, pattern: RegExp, content: string): string {
  // the language's own way is some ten times as fast, but goes on otherwise behind an empty match
  let isAnyEmpty = false
  const replaced = text.replace(pattern, (match) => {
    isAnyEmpty ||= match === ''
    return content
  })
  if (!isAnyEmpty) return replaced
  return Array.from(findSpans(text, pattern))
    .map(({ start, end, match }) => (match ? content : text.slice(start, end)))
    .join('')
}
