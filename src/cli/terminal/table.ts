import { safeLine, shortened } from '../../common/safe-text.js'

/** How the cells of a column are lined up. */
export type Align = 'left' | 'right'

const LONGEST_CELL = 160

/**
 * Plain text columns, two spaces apart. What a terminal would obey is escaped, very long cells are cut in the middle.
 *
 * @param rows cells; a row may end early. An empty row becomes a rule
 * @param align one per column
 */
export function formatTable(rows: readonly (readonly string[])[], align: readonly Align[]): string {
  const shown = rows.map((row) => row.map((cell) => shortened(safeLine(cell), LONGEST_CELL)))
  const widths = align.map((_, column) =>
    shown.reduce((most, row) => Math.max(most, row[column]?.length ?? 0), 0),
  )
  const rule = '-'.repeat(widths.reduce((sum, width) => sum + width + 2, -2))
  const lines = shown.map((row) => {
    if (row.length === 0) return rule
    const cells = row.map((cell, i) =>
      align[i] === 'left' ? cell.padEnd(widths[i]) : cell.padStart(widths[i]),
    )
    return cells.join('  ').trimEnd()
  })
  return lines.join('\n')
}

/** Notes of a result for people, a blank line in front of them where there are any. */
export function describeNotes(notes: readonly string[]): string[] {
  return notes.length === 0 ? [] : ['', ...notes.flatMap((note) => wrapText(`Note: ${note}.`, 79))]
}

/** Text broken between words into lines of at most `width` characters; a longer word has a line of its own, cut when very long. */
export function wrapText(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const long of safeLine(text).split(' ')) {
    const word = shortened(long, LONGEST_CELL)
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line]
}
