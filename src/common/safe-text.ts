/**
 * What a terminal would obey instead of show: control characters (C0, DEL, C1), marks that turn the direction of
 * writing, separators of lines, and half surrogate pairs, which are no text.
 */
const UNSAFE = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]|\p{Surrogate}/gu

const LONGEST_WORD = 300
const LONGEST_MESSAGE = 4000

/**
 * Text from a file or a caller as a line of a terminal can show it: what the terminal would obey is written as escapes,
 * e.g. `\x1b`. All text that people read goes through here: errors when they are made, tables, progress, and once more
 * whatever the command line prints.
 */
export function safeLine(text: string): string {
  return text.replace(UNSAFE, escaped)
}

/** {@link safeLine} of each line. */
export function safeLines(text: string): string {
  return text.replace(UNSAFE, (found) => (found === '\n' ? found : escaped(found)))
}

/** The same of text that a model writes: its tabs stay too. */
export function safeText(text: string): string {
  return text.replace(UNSAFE, (found) => (found === '\n' || found === '\t' ? found : escaped(found)))
}

/** JSON that a terminal shows as it is; parsed it gives the same values. */
export function safeJson(json: string): string {
  return json.replace(UNSAFE, (found) =>
    found === '\n' ? found : `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** The message of an error: one line, its long words and itself cut in the middle. */
export function safeMessage(message: string): string {
  const words = message.replace(/\S{301,}/g, (word) => shortened(word, LONGEST_WORD))
  return safeLine(shortened(words, LONGEST_MESSAGE))
}

/** Text of at most `most` characters, with `…` in place of what was left out of its middle. */
export function shortened(text: string, most: number): string {
  if (text.length <= most) return text
  const end = Math.floor((most - 1) / 3)
  return `${text.slice(0, most - 1 - end)}…${text.slice(text.length - end)}`
}

function escaped(found: string): string {
  if (found === '\n') return '\\n'
  if (found === '\t') return '\\t'
  if (found === '\r') return '\\r'
  const code = found.charCodeAt(0)
  return code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16)}`
}
