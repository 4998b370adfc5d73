/**
 * Spells out, in the parts of an expression that take both cases (`(?i:…)`), the letters beyond ASCII that are a case of
 * an ASCII letter: the long s and the Kelvin sign. The translation to JavaScript adds the ASCII ones by itself.
 *
 * @returns undefined where such a part has more than ASCII letters, signs and plain classes
 */
export function spellFolds(source: string): string | undefined {
  const spelled = source.replace(/\(\?i:([^()\\]*)\)/g, (group, content: string) =>
    isPlain(content)
      ? `(?i:${content.replace(/\[[^\]]*\]|[sk]/gi, spellPart)})`
      : group.replace('(?i:', beyond),
  )
  // what the expression above did not match has groups or escapes within
  return spelled.replace(/\(\?i:[^()\\]*\)/g, '').includes('(?i:') || spelled.includes(beyond)
    ? undefined
    : spelled
}

/** Marks a part that is beyond this; no expression can begin a group so. */
const beyond = '(?i!'

/** These are one letter too, or have one: ß, ﬅ, ﬀ, ﬁ, ﬂ. */
const foldedPairs = /ss|st|ff|fi|fl/i

function isPlain(content: string): boolean {
  return (
    /^[ -~’]*$/.test(content) &&
    !foldedPairs.test(content) &&
    (content.match(/\[[^\]]*\]/g) ?? []).every((each) => /^\[\^?[^\][]+\]$/.test(each))
  )
}

/** A letter, or a class, with what is missing. */
function spellPart(part: string): string {
  if (part.length === 1) return part.toLowerCase() === 's' ? '[s\u017f]' : '[k\u212a]'
  // JavaScript knows these cases in an expression that ignores case as a whole
  const members = new RegExp(part.replace(/^\[\^/, '['), 'iu')
  const missing = ['\u017f', '\u212a'].filter((letter) => members.test(letter)).join('')
  return part.replace(/^\[\^?/, (opening) => opening + missing)
}
