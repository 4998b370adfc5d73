import { cleanText } from './text.js'

/** HTML that is safe to insert as it stands. */
export interface Markup {
  readonly markup: string
}

type Value = Markup | readonly Markup[] | string | number

/** A template whose values are escaped, unless they are markup themselves. */
export function html(parts: TemplateStringsArray, ...values: readonly Value[]): Markup {
  let markup = parts[0]
  for (const [i, value] of values.entries()) markup += rendered(value) + parts[i + 1]
  return { markup }
}

/** Markup that was written by this library: pictures, style, script. */
export function trusted(markup: string): Markup {
  return { markup }
}

/** Nothing. */
export const empty: Markup = { markup: '' }

function rendered(value: Value): string {
  if (typeof value === 'object') return 'markup' in value ? value.markup : value.map(rendered).join('')
  return escapeHtml(String(value))
}

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

function escapeHtml(text: string): string {
  return cleanText(text).replace(/[&<>"']/g, (character) => entities[character])
}
