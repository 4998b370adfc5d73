/** Results as tables: on a terminal, in Markdown, and beside those of an earlier run. */
import { readFile, writeFile } from 'node:fs/promises'
import { formatTable } from '../../src/cli/terminal/table.js'
import type { Environment } from './environment.js'

/** How a column shows its values: as they are, with so many decimals, or with so many significant digits. */
export interface Column {
  readonly key: string
  readonly label: string
  readonly decimals?: number
  readonly digits?: number
}

/** A row may have values that no column shows; they are in the JSON. */
export type Row = Readonly<Record<string, string | number | null>>

export interface Table {
  /** Stable, unique in its suite; how `--compare` finds the table again. */
  readonly id: string
  readonly title: string
  /** What the figures are and what they mean, a sentence or two. */
  readonly note: string
  readonly columns: readonly Column[]
  readonly rows: readonly Row[]
  /** Columns that together name a row. */
  readonly keys: readonly string[]
  /** The value that `--compare` sets against that of an earlier run. */
  readonly compared: string
}

export interface SuiteResult {
  readonly environment: Environment
  readonly tables: readonly Table[]
}

/** What `--json` writes: results by the name of their suite. */
export interface BenchmarkFile {
  readonly quick: boolean
  readonly suites: Readonly<Record<string, SuiteResult>>
}

/** The tables with one more column: the compared value over the same row's value in `earlier`. */
export function compareTables(tables: readonly Table[], earlier: readonly Table[]): Table[] {
  return tables.map((table) => {
    const before = earlier.find(({ id }) => id === table.id)
    const nameOf = (row: Row) => JSON.stringify(table.keys.map((key) => row[key]))
    const values = new Map(before?.rows.map((row) => [nameOf(row), row[table.compared]]))
    const ratio = (row: Row) => {
      const [now, then] = [row[table.compared], values.get(nameOf(row))]
      return typeof now === 'number' && typeof then === 'number' && then !== 0 ? now / then : null
    }
    const { label } = table.columns.find(({ key }) => key === table.compared)!
    return {
      ...table,
      columns: [...table.columns, { key: 'toEarlier', label: `${label} / earlier`, decimals: 2 }],
      rows: table.rows.map((row) => ({ ...row, toEarlier: ratio(row) })),
    }
  })
}

/** Columns of plain text for a terminal. */
export function plainTable({ title, columns, rows }: Table): string {
  const align = columns.map(({ key }) => (isText(rows, key) ? 'left' : 'right'))
  const cells = rows.map((row) => columns.map((column) => formatCell(row, column)))
  return `${title}\n${formatTable([columns.map(({ label }) => label), [], ...cells], align)}`
}

/** A Markdown section with title, note and table, its columns lined up. */
export function markdownTable({ title, note, columns, rows }: Table): string {
  const cells = [
    columns.map(({ label }) => label),
    ...rows.map((row) => columns.map((column) => formatCell(row, column))),
  ]
  const widths = columns.map((_, i) => Math.max(3, ...cells.map((row) => row[i].length)))
  const left = columns.map(({ key }) => isText(rows, key))
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, i) => (left[i] ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join(' | ')} |`
  const rule = `| ${widths.map((width, i) => (left[i] ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)).join(' | ')} |`
  return [`### ${title}`, '', note, '', line(cells[0]), rule, ...cells.slice(1).map(line)].join('\n')
}

/** A table in Markdown of cells as they are, figures to the right from column `textColumns` on. */
export function tableOfCells(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  textColumns: number,
): string {
  const rule = header.map((_, i) => (i < textColumns ? '---' : '---:'))
  return [header, rule, ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

function isText(rows: readonly Row[], key: string): boolean {
  return rows.some((row) => typeof row[key] === 'string')
}

function formatCell(row: Row, { key, decimals, digits }: Column): string {
  const value = row[key]
  if (value === null || value === undefined) return '-'
  if (typeof value === 'string') return value
  if (digits !== undefined) return Number(value.toPrecision(digits)) === 0 ? '0' : plainDigits(value, digits)
  return decimals === undefined ? value.toLocaleString('en') : value.toFixed(decimals)
}

/** So many significant digits, never in powers of ten. */
function plainDigits(value: number, digits: number): string {
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value))))
  return Number(value.toPrecision(digits)).toFixed(Math.min(20, decimals))
}

/**
 * Puts `section` between the markers of `name` in a Markdown page.
 *
 * @throws Error when the page has no such markers
 */
export function replaceSection(page: string, name: string, section: string): string {
  const [open, close] = [`<!-- bench:${name} -->`, `<!-- /bench:${name} -->`]
  const [start, end] = [page.indexOf(open), page.indexOf(close)]
  if (start < 0 || end < start) {
    throw new Error(`the page has no section for the suite ${name}; expected the lines ${open} and ${close}`)
  }
  return `${page.slice(0, start + open.length)}\n\n${section}\n\n${page.slice(end)}`
}

/** {@link replaceSection} in a file. */
export async function writeSection(file: string, name: string, section: string): Promise<void> {
  await writeFile(file, replaceSection(await readFile(file, 'utf8'), name, section))
}
