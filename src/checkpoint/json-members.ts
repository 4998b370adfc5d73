import { finiteJson } from '../common/finite-json.js'

/**
 * The members of the one object that a JSON text holds, each value as it is written there. What is copied this way keeps
 * the spelling of its numbers: `30.0` read and written again is `30`, which strict readers take for another type.
 *
 * @param text valid JSON, an object
 * @returns by name; of members of one name the last, as JSON.parse has it
 */
export function membersOf(text: string): Map<string, string> {
  const members = new Map<string, string>()
  let depth = 0
  let name: string | undefined
  let start = 0
  for (let index = 0; index < text.length; index++) {
    // a pattern over whole strings would overflow the stack of its engine on a long one
    const stop = text[index] === '"' ? endOfString(text, index) : index
    const part = text.slice(index, stop + 1)
    const end = depth === 1 && (part === ',' || part === '}')
    if (end && name !== undefined) {
      members.set(name, text.slice(start, index).trim())
      name = undefined
    }
    if (part === '{' || part === '[') depth++
    else if (part === '}' || part === ']') depth--
    else if (depth === 1 && name === undefined && part.startsWith('"')) name = JSON.parse(part)
    else if (depth === 1 && part === ':') start = index + 1
    index = stop
  }
  return members
}

/** Where the quote is that ends the string which begins at `start`. */
function endOfString(text: string, start: number): number {
  let at = start + 1
  while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1
  return at
}

/** The JSON text of an object of these members, one a line. */
export function joinMembers(members: ReadonlyMap<string, string>): string {
  const lines = Array.from(members, ([name, value]) => `  ${JSON.stringify(name)}: ${value}`)
  return `{\n${lines.join(',\n')}\n}\n`
}

/** A value as {@link joinMembers} wants it, indented as a member is. */
export function memberOf(value: unknown): string {
  return finiteJson(value, 2).replaceAll('\n', '\n  ')
}
