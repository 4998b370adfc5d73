/** The members of a model card's YAML front matter by name, each with its lines, and the text behind it. */
export interface Card {
  readonly matter: ReadonlyMap<string, string>
  readonly text: string
}

/** Takes a README.md apart. One without front matter has no members. */
export function readCard(card: string): Card {
  const text = card.replace(/^\uFEFF/, '').replaceAll('\r\n', '\n')
  const [whole, lines] = /^---\n(?:([\s\S]*?)\n)??---[ \t]*(?:\n|$)/.exec(text) ?? []
  if (whole === undefined) return { matter: new Map(), text }
  const matter = new Map<string, string>()
  let name = ''
  for (const line of lines?.split('\n') ?? []) {
    const [, begun] = /^([\w-]+):/.exec(line) ?? []
    if (begun !== undefined) name = begun
    const before = matter.get(name)
    matter.set(name, before === undefined ? line : `${before}\n${line}`)
  }
  return { matter, text: text.slice(whole.length) }
}

/** Puts a README.md together. */
export function writeCard({ matter, text }: Card): string {
  const members = [...matter.values()]
  return members.length === 0 ? text : ['---', ...members, '---', text].join('\n')
}

/** Front matter with other values of single members; undefined removes one. */
export function withMembers(
  matter: ReadonlyMap<string, string>,
  members: Readonly<Record<string, string | undefined>>,
): Map<string, string> {
  const changed = new Map(matter)
  for (const [name, value] of Object.entries(members)) {
    // JSON strings are strings of YAML too
    if (value !== undefined) changed.set(name, `${name}: ${JSON.stringify(value)}`)
    else changed.delete(name)
  }
  return changed
}

/** Front matter without scores: those of a model are not those of what is made of it. */
export function withoutScores(matter: ReadonlyMap<string, string>): Map<string, string> {
  return withMembers(matter, { 'model-index': undefined, eval_results: undefined })
}

/** Front matter with tags in front of its own, and without some of them. */
export function withTags(
  matter: ReadonlyMap<string, string>,
  added: readonly string[],
  removed: readonly string[] = [],
): Map<string, string> {
  const apart = new Set([...added, ...removed])
  const tags = [...new Set(added), ...tagsOf(matter).filter((tag) => !apart.has(tag))]
  const changed = new Map(matter)
  if (tags.length > 0) changed.set('tags', ['tags:', ...tags.map((tag) => `- ${tag}`)].join('\n'))
  else changed.delete('tags')
  return changed
}

/** Tags as they are spelt: a list of lines, or one in brackets. */
function tagsOf(matter: ReadonlyMap<string, string>): string[] {
  const member = matter.get('tags') ?? ''
  const [, inline] = /^tags:\s*\[([^\]]*)\]/.exec(member) ?? []
  if (inline !== undefined)
    return inline
      .split(',')
      .map((tag) => tag.trim())
      .filter((tag) => tag !== '')
  return Array.from(member.matchAll(/^\s*-\s+(.*\S)\s*$/gm), ([, tag]) => tag)
}
