/** Values that files and callers hand in where others are expected. */
export const oddValues: readonly unknown[] = [
  ...[null, true, false, 0, 1, -1, 0.5, 1e308, -1e308, 2 ** 31, 2 ** 53, 1e-300, 3, 7, 128],
  ...['', 'x', 'llama', '\u0000', '\x1b[2J', 'n'.repeat(5000), '__proto__', '1e999', '\ud800'],
  ...[[], {}, [[]], [null], [1e9, 1e9], { a: { b: [] } }, Array(100).fill('t'), { type: 'Sequence' }],
]

/** One of a list. */
export function pick<T>(from: readonly T[], random: () => number): T {
  return from[Math.floor(random() * from.length)]
}

/** Replaces, removes, renames or adds a member somewhere in a JSON value, mostly deep in it. */
export function changeMember(value: unknown, random: () => number): void {
  if (typeof value !== 'object' || value === null) return
  const members = value as Record<string, unknown>
  const name = pick(Object.keys(members), random)
  if (name === undefined) return
  const inner = members[name]
  if (typeof inner === 'object' && inner !== null && random() < 0.75) {
    changeMember(inner, random)
    return
  }
  const kind = random()
  if (kind < 0.2) delete members[name]
  else if (kind < 0.3) members[`${name}_`] = inner
  else members[name] = structuredClone(pick(oddValues, random))
}

/** A changed copy of a JSON text; now and then its letters are changed and not its members. */
export function changedJson(bytes: Uint8Array, random: () => number): Uint8Array {
  if (random() < 0.1) return changedBytes(bytes, bytes.length, random)
  const value: unknown = JSON.parse(new TextDecoder().decode(bytes))
  for (let i = 0; i < 1 + 2 * random(); i++) changeMember(value, random)
  return new TextEncoder().encode(JSON.stringify(value) ?? '')
}

/** A changed copy of a file: cut short, longer, or with other bytes, mostly among the first `header`. */
export function changedBytes(bytes: Uint8Array, header: number, random: () => number): Uint8Array {
  const below = (limit: number) => Math.floor(random() * limit)
  const kind = below(6)
  if (kind === 0) return bytes.slice(0, below(random() < 0.5 ? header : bytes.length))
  if (kind === 1) return Uint8Array.from([...bytes, ...new Uint8Array(1 + below(40))])
  const changed = bytes.slice()
  // the header decides what is read where
  const room = random() < 0.8 ? header : bytes.length
  for (let i = 0; i < 1 + below(3); i++) changed[below(room)] = below(256)
  return changed
}
