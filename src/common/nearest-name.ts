/** ` Did you mean X?` for the nearest of `names` to what was typed; empty when none is near. */
export function suggestion(typed: string, names: readonly string[]): string {
  let best: string | undefined
  let least = Math.max(2, Math.floor(typed.length / 3)) + 1
  for (const name of names) {
    const distance = editDistance(typed.toLowerCase(), name.toLowerCase())
    if (distance < least) {
      best = name
      least = distance
    }
  }
  return best === undefined ? '' : `. Did you mean ${best}?`
}

/**
 * Tells whether a name matches a pattern: `*` stands for any characters, `?` for one, `{a,b}` for one of several, in which
 * `*` and `?` stand for the same; all else for itself.
 */
export function nameMatcher(pattern: string): (name: string) => boolean {
  const expression = pattern.replace(/\{([^{}]*)\}|[\s\S]/g, (part, choices: string | undefined) =>
    choices === undefined ? plain(part) : `(?:${choices.split(',').map(plain).join('|')})`,
  )
  const whole = new RegExp(`^${expression}$`)
  return (name) => whole.test(name)
}

/** A part of a pattern without choices, as a regular expression. */
function plain(part: string): string {
  return literally(part).replace(/\\\*/g, '[\\s\\S]*').replace(/\\\?/g, '[\\s\\S]')
}

function literally(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}

/** Insertions, deletions and replacements of one character that turn `a` into `b`. */
export function editDistance(a: string, b: string): number {
  let above = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = above[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)
      row.push(Math.min(replaced, above[j] + 1, row[j - 1] + 1))
    }
    above = row
  }
  return above[b.length]
}
