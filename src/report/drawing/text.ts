/** Text without what XML and HTML cannot hold: control characters, halves of surrogate pairs, noncharacters. */
export function cleanText(text: string): string {
  return text.replace(/[\t\n\r]+/g, ' ').replace(/[\p{Cc}\p{Cs}\p{Noncharacter_Code_Point}]/gu, '\ufffd')
}

/** About how wide a text is set in a system font, in pixels. */
export function textWidth(text: string, fontSize: number): number {
  let ems = 0
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0
    if (code > 0x2e80) ems += 1
    else if ("iljtfrI.,:;!|'()[] ".includes(character)) ems += 0.36
    else if ('mwMW@%→<>=+…'.includes(character)) ems += 0.9
    else ems += code >= 65 && code <= 90 ? 0.7 : 0.61
  }
  return ems * fontSize
}

/** Cuts a text to a width in pixels, the end replaced by an ellipsis. */
export function fitText(text: string, width: number, fontSize: number): string {
  if (textWidth(text, fontSize) <= width) return text
  const characters = [...text]
  while (characters.length > 1 && textWidth(`${characters.join('')}…`, fontSize) > width) characters.pop()
  return `${characters.join('').trimEnd()}…`
}

/** Breaks a text between words into lines of at most `width` pixels; a word that is wider is cut. */
export function wrapLines(text: string, width: number, fontSize: number): string[] {
  const lines: string[] = []
  for (const word of text.split(' ').filter((part) => part !== '')) {
    const longer = lines.length > 0 ? `${lines[lines.length - 1]} ${word}` : ''
    if (lines.length > 0 && textWidth(longer, fontSize) <= width) lines[lines.length - 1] = longer
    else lines.push(fitText(word, width, fontSize))
  }
  return lines
}

/** A number with three significant digits unless told otherwise, as short as it goes: `0.0123`, `12.5`, `1.2e−5`. */
export function formatNumber(value: number, digits = 3): string {
  if (!Number.isFinite(value)) return value > 0 ? '∞' : value < 0 ? '−∞' : '–'
  const rounded = Number(value.toPrecision(digits))
  if (rounded !== 0 && (Math.abs(rounded) < 1e-3 || Math.abs(rounded) >= 1e6)) {
    return rounded.toExponential().replace('+', '').replaceAll('-', '−')
  }
  return String(rounded).replace('-', '−')
}

/** A whole number with thin groups of three: `65 536`. */
export function formatWhole(value: number): string {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, '\u2009')
}
