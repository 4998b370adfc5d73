/** Text on its way to a terminal. */
export interface WrappedText {
  /** Writes what can be: a word that may go on is held back until it ends, or fills a line. */
  add(text: string): void
  /** Writes what is held back. */
  end(): void
}

/** Characters that take two columns, which need no space between them to be parted. */
const wide =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u
/** Characters that take none. */
const zero = /\p{Mark}|\u200b|\u200c|\u200d/u

/**
 * Breaks lines between words where the next one does not fit, as a terminal does not. Spaces at a break are left out; those a
 * line begins with stay. A word longer than a line is left to the terminal.
 *
 * @param columns of the terminal, asked for anew with each word; undefined or 0: not known, nothing is broken or held back
 */
export function wrapWords(write: (text: string) => void, columns: () => number | undefined): WrappedText {
  // of the line: columns taken; then spaces and a word that are not written yet
  let taken = 0
  let spaces = ''
  let word = ''
  let wordWidth = 0

  const flush = (): string => {
    if (word === '') return ''
    const width = columns() || Number.POSITIVE_INFINITY
    // a full line would leave the cursor behind its end
    const breaks = taken > 0 && taken + spaces.length + wordWidth >= width
    const text = (breaks ? '\n' : spaces) + word
    taken = (breaks ? 0 : taken + spaces.length) + wordWidth
    if (wordWidth >= width) taken %= width
    spaces = ''
    word = ''
    wordWidth = 0
    return text
  }
  const take = (character: string): string => {
    if (character === '\n') {
      const text = flush() + spaces + character
      spaces = ''
      taken = 0
      return text
    }
    if (character === ' ' || character === '\t') {
      const text = flush()
      spaces += character
      return text
    }
    const isWide = wide.test(character)
    const before = isWide ? flush() : ''
    word += character
    wordWidth += isWide ? 2 : zero.test(character) ? 0 : 1
    return before + (isWide || wordWidth >= (columns() || 0) ? flush() : '')
  }
  return {
    add(text) {
      let written = ''
      for (const character of text) written += take(character)
      if (written !== '') write(written)
    },
    end() {
      const written = flush() + spaces
      spaces = ''
      if (written !== '') write(written)
    },
  }
}
