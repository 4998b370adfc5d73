import { bytesOf } from './byte-letters.js'
import { readPattern, replaceMatches } from './pattern.js'
import { readPrependScheme } from './pre-tokenizers.js'
import type { Section } from './section.js'

/** One step from tokens to text. */
export type Decoder = (tokens: string[]) => string[]

/** The decoder of a tokenizer.json; what it gives is the text, in parts. Without one, tokens are set apart by spaces. */
export function readDecoder(section: Section | undefined): Decoder {
  if (section === undefined) return (tokens) => [tokens.join(' ')]
  return section.choice('type', readers)(section)
}

const readers: Record<string, (section: Section) => Decoder> = {
  ByteLevel: () => (tokens) => [text(tokens.flatMap((token) => Array.from(bytesOf(token))))],
  ByteFallback: () => byteFallback,
  Fuse: () => (tokens) => [tokens.join('')],
  Strip: strip,
  Replace: (section) => {
    const pattern = readPattern(section)
    const content = section.string('content')
    return (tokens) => tokens.map((token) => replaceMatches(token, pattern, content))
  },
  Metaspace: metaspace,
  WordPiece: wordPiece,
  BPEDecoder: (section) => {
    const suffix = section.string('suffix', '</w>')
    return (tokens) =>
      tokens.map((token, index) => token.replaceAll(suffix, index === tokens.length - 1 ? '' : ' '))
  },
  Sequence: (section) => {
    const steps = section.parts('decoders').map(readDecoder)
    return (tokens) => steps.reduce((each, step) => step(each), tokens)
  },
}

/** The bytes that a token by itself stands for by a decoder; undefined where it is text, which may depend on its place. */
export type ByteReader = (token: string) => Uint8Array | undefined

/** What tells the bytes of tokens that spell bytes, for the decoder of a tokenizer.json. */
export function readByteReader(section: Section | undefined): ByteReader {
  const types = section === undefined ? [] : typesOf(section)
  if (types.includes('ByteLevel')) return (token) => Uint8Array.from(bytesOf(token))
  if (!types.includes('ByteFallback')) return () => undefined
  return (token) => {
    const byte = namedByte(token)
    return byte === undefined ? undefined : Uint8Array.of(byte)
  }
}

function typesOf(section: Section): string[] {
  const type = section.string('type')
  return type === 'Sequence' ? section.parts('decoders').flatMap(typesOf) : [type]
}

/** The byte that a token such as `<0xE2>` stands for. */
function namedByte(token: string): number | undefined {
  const [, digits] = /^<0x([0-9A-Fa-f]{2})>$/.exec(token) ?? []
  return digits === undefined ? undefined : Number.parseInt(digits, 16)
}

const lenient = new TextDecoder('utf-8', { ignoreBOM: true })
const strict = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true })

function text(bytes: readonly number[]): string {
  return lenient.decode(Uint8Array.from(bytes))
}

/** Runs of byte tokens become text, or a replacement character each where they are no UTF-8. */
function byteFallback(tokens: string[]): string[] {
  const parts: string[] = []
  let bytes: number[] = []
  const flush = () => {
    if (bytes.length === 0) return
    try {
      parts.push(strict.decode(Uint8Array.from(bytes)))
    } catch {
      parts.push(...bytes.map(() => '\ufffd'))
    }
    bytes = []
  }
  for (const token of tokens) {
    const byte = namedByte(token)
    if (byte === undefined) {
      flush()
      parts.push(token)
    } else bytes.push(byte)
  }
  flush()
  return parts
}

function strip(section: Section): Decoder {
  const content = section.character('content')
  const start = section.count('start')
  const stop = section.count('stop')
  return (tokens) =>
    tokens.map((token) => {
      const letters = Array.from(token)
      let from = 0
      while (from < Math.min(start, letters.length) && letters[from] === content) from++
      let to = letters.length
      while (to > from && letters.length - to < stop && letters[to - 1] === content) to--
      return letters.slice(from, to).join('')
    })
}

function metaspace(section: Section): Decoder {
  const replacement = section.character('replacement')
  const prepended = readPrependScheme(section) !== 'never'
  return (tokens) =>
    tokens.map((token, index) => token.replaceAll(replacement, index === 0 && prepended ? '' : ' '))
}

function wordPiece(section: Section): Decoder {
  const prefix = section.string('prefix', '##')
  const cleanup = section.flag('cleanup', true)
  return (tokens) =>
    tokens.map((token, index) => {
      let word = token
      if (index > 0) word = token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`
      return cleanup ? clean(word) : word
    })
}

/** What the reference tidies up, in its order. */
const untidy: readonly (readonly [string, string])[] = [
  [' .', '.'],
  [' ?', '?'],
  [' !', '!'],
  [' ,', ','],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [' do not', " don't"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
]

function clean(word: string): string {
  return untidy.reduce((each, [found, instead]) => each.replaceAll(found, instead), word)
}
