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

/** The UTF-8 of a text, a letter a byte. */
export function byteLetters(text: string): string {
  let spelled = ''
  for (const byte of encoder.encode(text)) spelled += letters[byte]
  return spelled
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
