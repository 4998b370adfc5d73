import { shortened } from './safe-text.js'

/** A value as an error names it: its kind and size, never all of it. */
export function shownValue(value: unknown): string {
  if (value === null || value === undefined || typeof value === 'boolean') return String(value)
  if (typeof value === 'string') return shownText(value)
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  if (typeof value !== 'object') return `a ${typeof value}`
  const kind = value.constructor?.name || 'object'
  const length = (value as { readonly length?: unknown }).length
  return `${/^[AEIOU]/i.test(kind) ? 'an' : 'a'} ${kind}${typeof length === 'number' ? ` of ${length}` : ''}`
}

/** Text is quoted where it would be read as more than one word, or as another kind of value. */
function shownText(text: string): string {
  const isWord =
    /^\S+$/.test(text) && Number.isNaN(Number(text)) && !/^(true|false|null|undefined)$/.test(text)
  return isWord ? shortened(text, 100) : JSON.stringify(shortened(text, 100))
}
