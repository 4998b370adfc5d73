/**
 * What makes a notebook of a source with `// %%` cells, what makes its outputs the same on every run, and how two of
 * them are compared.
 */

/** Text as Jupyter stores it: whole, or in lines. */
export type NotebookText = string | readonly string[]

export interface Output {
  readonly output_type: string
  /** Of a stream: `'stdout'` or `'stderr'`. */
  readonly name?: string
  readonly text?: NotebookText
  /** By MIME type. */
  readonly data?: Readonly<Record<string, NotebookText>>
  readonly metadata?: Readonly<Record<string, unknown>>
}

export interface NotebookCell {
  readonly cell_type: 'code' | 'markdown'
  readonly metadata: Readonly<Record<string, unknown>>
  readonly source: NotebookText
  readonly execution_count?: number | null
  readonly outputs?: readonly Output[]
}

/** A notebook in the format of Jupyter, as far as it is used here. */
export interface Notebook {
  readonly cells: readonly NotebookCell[]
  readonly metadata: Readonly<Record<string, unknown>>
  readonly nbformat: number
  readonly nbformat_minor: number
}

const HEAD = /^\/\/ %%( \[markdown\])?$/
const PICTURE = 'image/svg+xml'

/** Cuts a source into cells; markdown stands in a block comment. @param name how errors name the source */
export function notebookOf(source: string, name: string): Notebook {
  const cells: { prose: boolean; lines: string[] }[] = []
  for (const line of source.replaceAll('\r\n', '\n').split('\n')) {
    const head = HEAD.exec(line)
    if (head) cells.push({ prose: head[1] !== undefined, lines: [] })
    else if (cells.length > 0) cells[cells.length - 1].lines.push(line)
    else if (line.trim() !== '') throw new Error(`${name}: begins with "${line}"; expected a line "// %%"`)
  }
  return {
    cells: cells.map(({ prose, lines }, i): NotebookCell => {
      const text = lines.join('\n').trim()
      if (!prose) {
        return { cell_type: 'code', execution_count: null, metadata: {}, outputs: [], source: linesOf(text) }
      }
      const comment = /^\/\*\n([\s\S]*)\n\*\/$/.exec(text)
      if (!comment) throw new Error(`${name}: cell ${i + 1} is markdown, but not one block comment`)
      return { cell_type: 'markdown', metadata: {}, source: linesOf(comment[1]) }
    }),
    metadata: {
      kernelspec: { display_name: 'TypeScript', language: 'typescript', name: 'tslab' },
      language_info: { file_extension: '.ts', mimetype: 'text/typescript', name: 'typescript' },
    },
    nbformat: 4,
    nbformat_minor: 4,
  }
}

/** The notebook with the outputs of a run, less all that differs from run to run. */
export function withOutputs(notebook: Notebook, executed: Notebook): Notebook {
  let count = 0
  const cells = notebook.cells.map((cell, i) =>
    cell.cell_type === 'code'
      ? { ...cell, execution_count: ++count, outputs: tidyOutputs(executed.cells[i].outputs ?? []) }
      : cell,
  )
  return { ...notebook, cells }
}

/** Streams in one piece each, pictures in their light colours. */
function tidyOutputs(outputs: readonly Output[]): Output[] {
  const tidy: Output[] = []
  for (const { name, text, data } of outputs) {
    const last = tidy[tidy.length - 1]
    if (data) {
      const entries = Object.entries(data).map(([type, content]) => [
        type,
        linesOf(type === PICTURE ? lightPicture(textOf(content)) : textOf(content)),
      ])
      tidy.push({ data: Object.fromEntries(entries), metadata: {}, output_type: 'display_data' })
    } else if (last?.text !== undefined && last.name === name) {
      tidy[tidy.length - 1] = { ...last, text: linesOf(textOf(last.text) + textOf(text ?? '')) }
    } else tidy.push({ name, output_type: 'stream', text: linesOf(textOf(text ?? '')) })
  }
  return tidy
}

/**
 * A picture with the colours of its light scheme written out: sites that only show notebooks may take styles away, and
 * their page is white.
 */
export function lightPicture(svg: string): string {
  const colours = new Map<string, string>()
  const style = (/<style>([^<]*)<\/style>/.exec(svg)?.[1] ?? '').replace(
    /@media[^{]*\{[^{}]*\{[^{}]*\}\}/g,
    '',
  )
  for (const [, name, value] of style.matchAll(/--([\w-]+):([^;}]*)/g)) colours.set(name, value)
  const resolve = (text: string): string =>
    text.replace(/var\(--([\w-]+)\)/g, (_, name) => resolve(colours.get(name) ?? 'none'))
  const rules = style.replace(/--[\w-]+:[^;}]*;?/g, '').replace(/[^{}]*\{\}/g, '')
  return resolve(svg.replace(/<style>[^<]*<\/style>/, () => `<style>${rules}</style>`))
}

/** What the cells of a notebook say on stderr: warnings, and what became of cells that failed. */
export function complaints({ cells }: Notebook): string[] {
  return cells.flatMap(({ outputs = [] }, i) =>
    outputs
      .filter(({ name }) => name === 'stderr')
      .map(({ text }) => `cell ${i + 1} says on stderr:\n${textOf(text ?? '')}`),
  )
}

/** Where two notebooks say something else. Of pictures only the titles are compared, texts as by {@link isAlike}. */
export function differences(stored: Notebook, fresh: Notebook): string[] {
  const found: string[] = []
  if (stored.cells.length !== fresh.cells.length) {
    return [`has ${stored.cells.length} cells, its source ${fresh.cells.length}`]
  }
  for (const [i, now] of fresh.cells.entries()) {
    const before = stored.cells[i]
    if (before.cell_type !== now.cell_type || textOf(before.source) !== textOf(now.source)) {
      found.push(`cell ${i + 1} is not that of the source`)
      continue
    }
    const [told, tells] = [before, now].map(({ outputs = [] }) => outputs.map(said).join('\n'))
    if (!isAlike(told, tells)) found.push(`cell ${i + 1} is stored with\n${told}\nand now says\n${tells}`)
  }
  return found
}

function said({ name, text, data = {} }: Output): string {
  if (text !== undefined) return `${name}: ${textOf(text)}`
  return Object.entries(data)
    .map(([type, content]) => {
      const whole = textOf(content)
      return `${type}: ${type === PICTURE ? /<title>([^<]*)/.exec(whole)?.[1] : whole}`
    })
    .join('\n')
}

/**
 * Whether two texts are the same, but for numbers that differ by at most 2 % or a unit of their last digit, and for the
 * spaces that align them: other machines round otherwise.
 */
export function isAlike(a: string, b: string): boolean {
  const number = /\d+(?:\.\d+)?/g
  const words = (text: string) => text.replace(number, '#').replace(/ +/g, ' ')
  if (words(a) !== words(b)) return false
  const others = b.match(number) ?? []
  return (a.match(number) ?? []).every((text, i) => {
    const decimals = text.split('.')[1]?.length
    const unit = decimals === undefined ? 0 : 1.01 * 10 ** -decimals
    const value = Number(text)
    return Math.abs(value - Number(others[i])) <= Math.max(unit, 0.02 * value)
  })
}

/** A text in lines, so that the change of a line is the change of a line of the file. */
function linesOf(text: string): string[] {
  return text.match(/[^\n]*\n|[^\n]+$/g) ?? []
}

export function textOf(content: NotebookText): string {
  return typeof content === 'string' ? content : content.join('')
}
