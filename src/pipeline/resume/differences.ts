import { isDeepStrictEqual } from 'node:util'
import { shownValue } from '../../common/shown-value.js'

/** Names what differs, with what it was and what it is now, e.g. `bits 2 (now 3)`. */
export function differencesOf(
  before: Readonly<Record<string, unknown>>,
  now: Readonly<Record<string, unknown>>,
): string[] {
  const names = [...new Set([...Object.keys(before), ...Object.keys(now)])]
  return names
    .filter((name) => !isWrittenAlike(before[name], now[name]))
    .map((name) => `${name} ${shown(before[name])} (now ${shown(now[name])})`)
}

function shown(value: unknown): string {
  return value === undefined ? 'not given' : shownValue(value)
}

/** Whether two values are written the same: one of them has been in a file. */
export function isWrittenAlike(a: unknown, b: unknown): boolean {
  return isDeepStrictEqual(asWritten(a), asWritten(b))
}

function asWritten(value: unknown): unknown {
  return value === undefined ? undefined : JSON.parse(JSON.stringify(value))
}
