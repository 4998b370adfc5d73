/**
 * Finds what JavaScript's regular expressions have no equal of, or what keeps them busy for ever, and names it.
 * Undefined for an expression without any.
 */
export function findHardPart(source: string): string | undefined {
  const groups: Group[] = [{ atoms: 0, loops: false }]
  // whether what was read last is a group that may be one repetition all over
  let loop = false
  for (let at = 0; at < source.length; ) {
    const group = groups[groups.length - 1]
    const rest = source.slice(at, at + 64)
    const repeat = quantifiers.exec(rest)?.[0]
    if (repeat !== undefined && group.atoms > 0) {
      if (/^(?:.+\+|\{\d+\}\?)$/s.test(repeat)) return `the quantifier ${repeat}`
      const endless = /^(?:[*+]|\{\d+,\})/.test(repeat)
      if (endless && loop) return 'a repeated group that is a repetition itself'
      at += repeat.length
      group.loops ||= endless && isWhole(group, source, at)
      loop = false
      continue
    }
    const part = source[at] === '[' ? source.slice(at, classEnd(source, at)) : parts.exec(rest)![0]
    if (unsupported.test(part)) return part
    at += part.length
    loop = false
    if (part === '|') group.atoms = 0
    else if (part === ')') {
      if (groups.length > 1) groups.pop()
      loop = group.loops
      const outer = groups[groups.length - 1]
      outer.loops ||= loop && isWhole(outer, source, at)
    } else {
      group.atoms++
      if (part.startsWith('(')) groups.push({ atoms: 0, loops: false })
    }
  }
  return undefined
}

interface Group {
  /** Parts read so far of the present alternative. */
  atoms: number
  /** Whether some alternative is one part that is repeated without end. */
  loops: boolean
}

/** Whether the part that ends before `at` is all of its alternative. */
function isWhole(group: Group, source: string, at: number): boolean {
  return group.atoms === 1 && /^(?:[)|]|$)/.test(source.slice(at, at + 1))
}

const quantifiers = /^(?:[*+?]|\{(?:\d+(?:,\d*)?|,\d+)\})[?+]?/
const parts =
  /^(?:\((?:\?(?:[:=!>~|#]|<[=!]|<\w+>|[a-zA-Z-]+[:)]?))?|\\[pPxu]\{[^}]*\}|\\[kg]<[^>]*>|\\.|.)/su
const unsupported = /^(?:\(\?(?![:=!]|<[=!]|<\w+>|i:)|\\[GKRXyYNO1-9]|\\[kg]<)/

/** The index after a class; classes can stand in it. */
function classEnd(source: string, start: number): number {
  let depth = 0
  for (let at = start; at < source.length; at++) {
    if (source[at] === '\\') at++
    else if (source[at] === '[') {
      depth++
      // a bracket right after the opening stands for itself
      if (source[at + 1] === '^') at++
      if (source[at + 1] === ']') at++
    } else if (source[at] === ']' && --depth === 0) return at + 1
  }
  return source.length
}
