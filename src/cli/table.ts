/** How the cells of a column are lined up. */
export type Align = 'left' | 'right'

/**
 * Plain text columns, two spaces apart.
 *
 * @param rows cells; a row may end early. An empty row becomes a rule
 * @param align one per column
 */
export function formatTable(rows: readonly (readonly string[])[], align: readonly Align[]): string {
  const widths = align.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const rule = '-'.repeat(widths.reduce((sum, width) => sum + width + 2, -2))
  const lines = rows.map((row) => {
    if (row.length === 0) return rule
    const cells = row.map((cell, i) =>
      align[i] === 'left' ? cell.padEnd(widths[i]) : cell.padStart(widths[i]),
    )
    return cells.join('  ').trimEnd()
  })
  return lines.join('\n')
}

/** Text broken between words into lines of at most `width` characters; a longer word has a line of its own. */
export function wrapText(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line]
}
