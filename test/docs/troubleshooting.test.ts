import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as gptvq from 'gptvq'
import { expect, it } from 'vitest'

const root = fileURLToPath(new URL('../../', import.meta.url))
const page = readFileSync(join(root, 'docs/troubleshooting.md'), 'utf8')

/** Names of options as the command line spells them become those of the library, so that either is found. */
const plain = (text: string) =>
  text.replace(/--([a-z]+(?:-[a-z]+)*)/g, (_, name: string) =>
    name.replace(/-[a-z]/g, (letter) => letter[1].toUpperCase()),
  )

/** All source text with its string literals joined, and what is filled into them left out. */
const source = plain(
  readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.includes('binaries'))
    .map((name) => readFileSync(join(root, 'src', name), 'utf8'))
    .join('\n')
    .replace(/['"`] \+\s+['"`]/g, ''),
)

/** What a message on the page has in the place of what is filled in. */
const FILLED_IN = /…|config\.json|tokenizer\.json|"|\bgptvq\b|\bNaN\b|\bmissing\b|2\.00 GiB|1e18|: |[()]/

/** Messages in the first columns of the page's tables. */
function messages(): string[] {
  const tables = page.matchAll(/^\| message.*\n\| -.*\n((?:\|.*\n)*)/gm)
  return Array.from(tables, ([, rows]) => rows)
    .flatMap((rows) => rows.trim().split('\n'))
    .flatMap((row) => Array.from(row.split(/(?<!\\)\|/)[1].matchAll(/`([^`]+)`/g), ([, message]) => message))
}

it('quotes only messages that the library has', () => {
  expect(messages().length).toBeGreaterThan(50)
  const unknown = messages().filter((message) =>
    plain(message)
      .split(FILLED_IN)
      .map((part) => part.trim())
      .some((part) => part.length > 2 && !source.includes(part)),
  )
  expect(unknown).toEqual([])
})

it('names every class of errors with its code', () => {
  const classes = Object.entries(gptvq).filter(
    ([name, value]) => /^[A-Z]\w*Error$/.test(name) && typeof value === 'function' && name !== 'GptvqError',
  )
  expect(classes.length).toBe(7)
  for (const [name] of classes) {
    const code = name.replace('Error', '').toUpperCase()
    expect(page).toMatch(new RegExp(`\\| \`${name}\` +\\| \`${code}\` +\\|`))
  }
})
