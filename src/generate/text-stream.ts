import type { Tokenizer } from '../model/tokenizer.js'

/** Tokens of the prompt that the first new ones are decoded after: what a token becomes may depend on those before it. */
const CONTEXT_TOKENS = 4
/** A character has at most 4 bytes: of a longer run of bytes that make none, only the last 3 can begin one. */
const PATIENT_TOKENS = 8
const MOST_OPEN_BYTES = 3

const REPLACEMENT = '\ufffd'

/** Turns tokens into text as they come. */
export interface TextStream {
  /** The text that is certain with this token; empty while a character is incomplete, and for special tokens. */
  push(token: number): string
  /** The rest: what never became a character comes as U+FFFD. */
  end(): string
}

/**
 * A stream of the text of tokens that follow `before`. Put together it is what the tokenizer makes of all its tokens at
 * once, and no part of it ends within a character.
 *
 * @param before the tokens in front of them; empty: the text begins here, so that a tokenizer may drop its first space
 */
export function createTextStream(tokenizer: Tokenizer, before: readonly number[] = []): TextStream {
  const special = tokenizer.specialIds
  let window = before.filter((token) => !special.has(token)).slice(-CONTEXT_TOKENS)
  const textOf = (tokens: readonly number[]) => tokenizer.decode(Int32Array.from(tokens))
  // characters of the window's text that were given out, and tokens up to the end of one
  let given = textOf(window).length
  let whole = window.length
  const take = (text: string, end: number) => {
    const part = text.slice(given, end)
    given = Math.max(given, end)
    return part
  }
  return {
    push(token) {
      if (special.has(token)) return ''
      window.push(token)
      const text = textOf(window)
      const open = openCharacters(text)
      if (open > 0) {
        if (window.length - whole < PATIENT_TOKENS) return take(text, text.length - open)
        return take(text, text.length - Math.min(open, MOST_OPEN_BYTES))
      }
      const part = take(text, text.length)
      const next = window.slice(whole)
      // the tokens since the last whole character are context enough for those that follow
      if (window.length > CONTEXT_TOKENS && textOf(next) !== '') {
        window = next
        given = textOf(window).length
      }
      whole = window.length
      return part
    },
    end() {
      const text = textOf(window)
      return take(text, text.length)
    },
  }
}

/** Replacement characters at the end: they may yet become a character. */
function openCharacters(text: string): number {
  let open = 0
  while (open < text.length && text[text.length - 1 - open] === REPLACEMENT) open++
  return open
}
