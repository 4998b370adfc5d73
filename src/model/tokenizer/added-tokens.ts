import type { Normalizer, Piece } from './normalizers.js'
import { whitespace, wordCharacter } from './pattern.js'
import type { Section } from './section.js'
import type { Model } from './words/vocabulary.js'

/** A token that is found in the text before the model sees it, e.g. a special token written out. */
export interface AddedToken {
  readonly id: number
  /** How it is written; in the normalized text, for one that is looked for there. */
  readonly content: string
  /** Found only where no letter stands right before or after it. */
  readonly singleWord: boolean
  /** White space before it belongs to it. */
  readonly lstrip: boolean
  /** White space after it belongs to it. */
  readonly rstrip: boolean
  /** Found in the normalized text, not in the text as it stands. */
  readonly normalized: boolean
  /** Marks something, rather than being text. */
  readonly special: boolean
}

/**
 * Reads `added_tokens`. Their ids are those that the reference gives: the vocabulary's own for a token in it, the next
 * free one for others.
 *
 * @throws CheckpointError where the file has another id
 */
export function readAddedTokens(
  definition: Section,
  { ids, size }: Model,
  normalize: Normalizer,
): AddedToken[] {
  const given = new Map<string, number>()
  const found = new Set<string>()
  let largest = -1
  return definition
    .parts('added_tokens')
    .filter((section) => section.string('content') !== '')
    .map((section) => {
      const content = section.string('content')
      const id = ids.get(content) ?? given.get(content) ?? Math.max(largest + 1, size)
      if (section.count('id') !== id) {
        section.fail(
          'id',
          `${id}, which ${JSON.stringify(content)} has by the vocabulary and the tokens before it`,
        )
      }
      given.set(content, id)
      largest = Math.max(largest, id)
      const special = section.flag('special', false)
      const normalized = section.flag('normalized', !special)
      const written = normalized ? normalize({ text: content, first: true }).text : content
      const place = `${normalized} ${written}`
      // which of two is found is left to chance in the reference
      if (found.has(place)) section.fail('content', 'what no other added token is in the text')
      found.add(place)
      return {
        id,
        content: written,
        singleWord: section.flag('single_word', false),
        lstrip: section.flag('lstrip', false),
        rstrip: section.flag('rstrip', false),
        normalized,
        special,
      }
    })
}

/** A piece of text, or the id of an added token that stands there. */
export type Part = Piece | number

/** Finds the added tokens of a text, first those of the text as it stands, then those of the normalized text. */
export function addedTokenSplitter(
  tokens: readonly AddedToken[],
  normalize: Normalizer,
): (text: string) => Part[] {
  const asWritten = finder(tokens.filter(({ normalized }) => !normalized))
  const inNormalized = finder(tokens.filter(({ normalized }) => normalized))
  return (text) =>
    asWritten({ text, first: true }).flatMap((part) =>
      typeof part === 'number' ? [part] : inNormalized(normalize(part)),
    )
}

type Finder = (piece: Piece) => Part[]

function finder(tokens: readonly AddedToken[]): Finder {
  const trie = new Map<string, Branch>()
  for (const token of tokens) insert(trie, token)
  if (trie.size === 0) return (piece) => (piece.text === '' ? [] : [piece])
  return ({ text, first }) => {
    const parts: Part[] = []
    const push = (start: number, end: number) => {
      if (start < end) parts.push({ text: text.slice(start, end), first: first && start === 0 })
    }
    // what is before `done` is in `parts`; white space that a token took may lie after `at`
    let done = 0
    for (let at = 0; at < text.length; ) {
      const found = longest(trie, text, at)
      if (found === undefined) {
        at++
        continue
      }
      const end = at + found.length
      if (!found.token.singleWord || standsAlone(text, at, end)) {
        const start = found.token.lstrip ? Math.max(spaceStart(text, at), done) : at
        push(done, start)
        parts.push(found.token.id)
        done = found.token.rstrip ? spaceEnd(text, end) : end
      }
      at = end
    }
    push(done, text.length)
    return parts
  }
}

interface Branch {
  token: AddedToken | undefined
  readonly next: Map<string, Branch>
}

function insert(trie: Map<string, Branch>, token: AddedToken): void {
  let level = trie
  let branch: Branch | undefined
  for (const unit of token.content.split('')) {
    branch = level.get(unit)
    if (branch === undefined) {
      branch = { token: undefined, next: new Map() }
      level.set(unit, branch)
    }
    level = branch.next
  }
  if (branch !== undefined) branch.token = token
}

function longest(
  trie: Map<string, Branch>,
  text: string,
  start: number,
): { token: AddedToken; length: number } | undefined {
  let found: { token: AddedToken; length: number } | undefined
  let level = trie
  for (let at = start; at < text.length; at++) {
    const branch = level.get(text[at])
    if (branch === undefined) break
    if (branch.token !== undefined) found = { token: branch.token, length: at + 1 - start }
    level = branch.next
  }
  return found
}

const wordBefore = new RegExp(`[${wordCharacter}]$`, 'u')
const wordAfter = new RegExp(`^[${wordCharacter}]`, 'u')
const space = new RegExp(whitespace, 'u')

function standsAlone(text: string, start: number, end: number): boolean {
  // two units hold any character
  return (
    !wordBefore.test(text.slice(Math.max(0, start - 2), start)) && !wordAfter.test(text.slice(end, end + 2))
  )
}

function spaceStart(text: string, end: number): number {
  let start = end
  while (start > 0 && space.test(text[start - 1])) start--
  return start
}

function spaceEnd(text: string, start: number): number {
  let end = start
  while (end < text.length && space.test(text[end])) end++
  return end
}
