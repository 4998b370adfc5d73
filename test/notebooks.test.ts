import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { codebookPlot } from 'gptvq/report'
import { describe, expect, it } from 'vitest'
import {
  complaints,
  differences,
  isAlike,
  lightPicture,
  type Notebook,
  type NotebookCell,
  notebookOf,
  textOf,
  withOutputs,
} from '../scripts/notebook-cells.js'

const folder = join(dirname(dirname(fileURLToPath(import.meta.url))), 'examples/notebooks')
const read = (name: string) => readFileSync(join(folder, name), 'utf8')
const names = readdirSync(folder).flatMap((file) => /^(\d\d-.*)\.ts$/.exec(file)?.[1] ?? [])
const picture = codebookPlot({ vectorDim: 1, bits: 1, centroids: Float32Array.of(-1, 1) })

const source = `// %% [markdown]
/*
# Title

\`code\` and $x$.
*/

// %%
import { matrix } from 'gptvq'

const m = matrix(1, 1)
// %%
console.log(m)
`

/** A notebook of one code cell that printed some text. */
function printing(text: string, name = 'stdout'): Notebook {
  const cell: NotebookCell = {
    cell_type: 'code',
    metadata: {},
    source: 'console.log()',
    outputs: [{ output_type: 'stream', name, text }],
  }
  return { cells: [cell], metadata: {}, nbformat: 4, nbformat_minor: 4 }
}

describe('the stored notebooks', () => {
  it('are four, each with a source', () => {
    expect(names).toHaveLength(4)
    expect(
      readdirSync(folder)
        .filter((file) => file.endsWith('.ipynb'))
        .sort(),
    ).toEqual(names.map((name) => `${name}.ipynb`).sort())
  })

  for (const name of names) {
    it(`${name}: has the cells of its source, all run in order without complaint, with pictures, and is light`, () => {
      const text = read(`${name}.ipynb`)
      const stored: Notebook = JSON.parse(text)
      const bare = notebookOf(read(`${name}.ts`), name)
      expect(stored.cells.map(({ cell_type, source }) => [cell_type, textOf(source)])).toEqual(
        bare.cells.map(({ cell_type, source }) => [cell_type, textOf(source)]),
      )
      const code = stored.cells.filter(({ cell_type }) => cell_type === 'code')
      expect(code.map(({ execution_count }) => execution_count)).toEqual(code.map((_, i) => i + 1))
      expect(complaints(stored)).toEqual([])
      const pictures = code.flatMap(({ outputs = [] }) =>
        outputs.flatMap(({ data }) => data?.['image/svg+xml'] ?? []),
      )
      expect(pictures.length).toBeGreaterThanOrEqual(3)
      expect(text).not.toMatch(/var\(--|prefers-color-scheme|\/(home|tmp|work|Users)\//)
      expect(text.length).toBeLessThan(200_000)
    })
  }
})

describe('notebookOf', () => {
  it('cuts a source into prose and code', () => {
    const { cells } = notebookOf(source, 'x.ts')
    expect(cells.map(({ cell_type, source }) => [cell_type, textOf(source)])).toEqual([
      ['markdown', '# Title\n\n`code` and $x$.'],
      ['code', "import { matrix } from 'gptvq'\n\nconst m = matrix(1, 1)"],
      ['code', 'console.log(m)'],
    ])
    expect(notebookOf(source.replaceAll('\n', '\r\n'), 'x.ts').cells).toEqual(cells)
  })

  it('names a source that begins without a cell, and prose that is no comment', () => {
    expect(() => notebookOf('const a = 1\n', 'x.ts')).toThrow(/x\.ts: begins with "const a = 1"/)
    expect(() => notebookOf('// %% [markdown]\n// text\n', 'x.ts')).toThrow(/x\.ts: cell 1 is markdown/)
  })
})

describe('withOutputs', () => {
  it('joins what was printed in pieces, keeps stderr apart, and drops ids and times', () => {
    const bare = notebookOf(source, 'x.ts')
    const stream = (name: string, text: string) => ({ output_type: 'stream', name, text })
    const executed: Notebook = {
      ...bare,
      cells: bare.cells.map((cell, i) =>
        i === 2
          ? {
              ...cell,
              metadata: { execution: { 'iopub.status.busy': '2026-01-01' } },
              outputs: [
                stream('stdout', 'a'),
                stream('stdout', 'b\nc\n'),
                stream('stderr', 'warning\n'),
                { output_type: 'display_data', data: { 'image/svg+xml': picture }, metadata: { id: 7 } },
              ],
            }
          : cell,
      ),
    }
    const [, first, second] = withOutputs(bare, executed).cells
    expect([first.execution_count, second.execution_count]).toEqual([1, 2])
    expect(second.metadata).toEqual({})
    const [out, err, shown] = second.outputs ?? []
    expect(out).toEqual({ output_type: 'stream', name: 'stdout', text: ['ab\n', 'c\n'] })
    expect(err).toEqual({ output_type: 'stream', name: 'stderr', text: ['warning\n'] })
    expect(shown.metadata).toEqual({})
    expect(textOf(shown.data?.['image/svg+xml'] ?? '')).toBe(lightPicture(picture))
    expect(complaints(withOutputs(bare, executed))).toEqual(['cell 3 says on stderr:\nwarning\n'])
  })
})

describe('lightPicture', () => {
  it('writes every colour out and changes nothing else', () => {
    const light = lightPicture(picture)
    expect(picture).toMatch(/var\(--series-1\)/)
    expect(light).not.toMatch(/var\(--|@media|--paper/)
    expect(light).toContain('fill="#0d69ca"')
    expect(light).toMatch(/<rect [^>]*fill="#ffffff"/)
    const bare = (svg: string) =>
      svg.replace(/<style>[^<]*<\/style>/, '').replace(/var\(--[\w-]+\)|#[0-9a-f]{6}/g, '')
    expect(bare(light)).toBe(bare(picture))
  })
})

describe('differences', () => {
  it('are none for the same, and for numbers a little off', () => {
    expect(differences(printing('error 0.1234\n'), printing('error 0.1234\n'))).toEqual([])
    expect(differences(printing('error 0.1234\n'), printing('error  0.1250\n'))).toEqual([])
  })

  it('name the cell whose source, words, numbers or number of outputs changed', () => {
    const stored = printing('error 0.1234\n')
    const [cell] = stored.cells
    for (const changed of [
      printing('error 0.1300\n'),
      printing('mistake 0.1234\n'),
      printing('error 0.1234\n', 'stderr'),
      { ...stored, cells: [{ ...cell, source: 'other' }] },
      { ...stored, cells: [{ ...cell, outputs: [] }] },
    ]) {
      const found = differences(stored, changed)
      expect(found).toHaveLength(1)
      expect(found[0]).toContain('cell 1')
    }
    expect(differences(stored, { ...stored, cells: [cell, cell] })).toHaveLength(1)
  })
})

describe('isAlike', () => {
  it('allows a unit of the last digit, or 2 %', () => {
    for (const [a, b, alike] of [
      ['0.01 dB', '0.02 dB', true],
      ['0.01 dB', '0.03 dB', false],
      ['10.0', '10.2', true],
      ['10.0', '10.3', false],
      ['28 layers', '28 layers', true],
      ['28 layers', '29 layers', false],
      ['1 2', '1', false],
      ['d = 4', 'd = 2', false],
    ] as const) {
      expect([a, b, isAlike(a, b)]).toEqual([a, b, alike])
    }
  })
})
