import type { Section } from './section.js'

/**
 * The precompiled character map of SentencePiece: a trie over UTF-8 as a double array (32-bit units, after their size
 * in bytes), then the replacements, each ended by a zero.
 *
 * @returns what rewrites a text by it
 */
export function readCharacterMap(section: Section): (text: string) => string {
  const encoded = section.string('precompiled_charsmap')
  const map = decodeBase64(encoded) ?? new Uint8Array(0)
  const view = new DataView(map.buffer)
  const size = map.length >= 4 ? view.getUint32(0, true) : 0
  if (size === 0 || size % 4 !== 0 || 4 + size > map.length) {
    section.fail('precompiled_charsmap', 'a character map of SentencePiece in base64')
  }
  const units = Uint32Array.from({ length: size / 4 }, (_, index) => view.getUint32(4 + 4 * index, true))
  return rewriter(units, map.subarray(4 + size))
}

/** Undefined for text that is not base64. */
function decodeBase64(text: string): Uint8Array | undefined {
  try {
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))
  } catch {
    return undefined
  }
}

/** Whole graphemes of less than 6 bytes are looked up first, then their characters one by one. */
function rewriter(units: Uint32Array, replacements: Uint8Array): (text: string) => string {
  const known = new Map<string, string>()
  const lookUp = (part: string) => replacement(part, units, replacements)
  const rewrite = (grapheme: string): string => {
    const whole = encoder.encode(grapheme).length < 6 ? lookUp(grapheme) : undefined
    return whole ?? Array.from(grapheme, (letter) => lookUp(letter) ?? letter).join('')
  }
  const graphemes = new Intl.Segmenter('en', { granularity: 'grapheme' })
  return (text) => {
    let rewritten = ''
    for (const { segment } of graphemes.segment(text)) {
      let found = known.get(segment)
      if (found === undefined) {
        found = rewrite(segment)
        if (known.size < knownGraphemes) known.set(segment, found)
      }
      rewritten += found
    }
    return rewritten
  }
}

const knownGraphemes = 65536
const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

/** The replacement of the shortest beginning of `part` that has one: so the reference does it. */
function replacement(part: string, units: Uint32Array, replacements: Uint8Array): string | undefined {
  let node = childBase(units[0])
  for (const byte of encoder.encode(part)) {
    if (byte === 0) return undefined
    node ^= byte
    const unit = units[node] ?? 0
    // the label of a node is its lowest byte; a set top bit makes it a value
    if ((unit & 0x8000_00ff) !== byte) return undefined
    node ^= childBase(unit)
    if ((unit & 0x100) !== 0) {
      const start = (units[node] ?? 0) & 0x7fff_ffff
      const end = replacements.indexOf(0, start)
      return decoder.decode(replacements.subarray(start, end < 0 ? undefined : end))
    }
  }
  return undefined
}

function childBase(unit: number): number {
  return (unit >>> 10) << ((unit & 0x200) >>> 6)
}
