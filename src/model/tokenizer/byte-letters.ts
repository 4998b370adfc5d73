/** GPT-2's alphabet: a printable letter for each byte, the byte's own letter where it is printable. */
const letters: readonly string[] = alphabet()

function alphabet(): string[] {
  const printable = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
  let next = 256
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++))
}

const bytes: ReadonlyMap<string, number> = new Map(letters.map((letter, byte) => [letter, byte]))
const encoder = new TextEncoder()

const codes = Uint16Array.from(letters, (letter) => letter.charCodeAt(0))
const utf16 = new TextDecoder('utf-16le', { ignoreBOM: true })
/** Bytes beyond which letters are put together all at once: one by one, megabytes take seconds. */
const LONG = 1024

/** The UTF-8 of a text, a letter a byte. */
export function byteLetters(text: string): string {
  const given = encoder.encode(text)
  let spelled = ''
  if (given.length <= LONG) {
    for (const byte of given) spelled += letters[byte]
    return spelled
  }
  const units = new Uint16Array(given.length)
  for (let i = 0; i < given.length; i++) units[i] = codes[given[i]]
  return utf16.decode(units)
}

/** The bytes that a token spells; a token with other letters (an added one) stands for itself. */
export function bytesOf(token: string): Iterable<number> {
  const spelled: number[] = []
  for (const letter of token) {
    const byte = bytes.get(letter)
    if (byte === undefined) return encoder.encode(token)
    spelled.push(byte)
  }
  return spelled
}
