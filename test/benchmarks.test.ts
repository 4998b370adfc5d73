import { execFile } from 'node:child_process'
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { medianOf, timeTogether, timingOf } from '../benchmarks/common/harness.js'
import { settings } from '../benchmarks/common/methods.js'
import {
  type BenchmarkFile,
  compareTables,
  markdownTable,
  plainTable,
  replaceSection,
  type Table,
} from '../benchmarks/common/report.js'
import { correlatedHessian, correlatedInputs } from '../benchmarks/common/synthetic.js'
import { HessianAccumulator, reconstructionError } from '../src/index.js'
import { gaussianMatrix } from './support/random-matrix.js'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const suites = ['accuracy', 'cache', 'generate', 'kernels', 'layer', 'shared', 'memory', 'model', 'packed']

async function bench(...flags: string[]): Promise<string> {
  const args = ['--import', 'tsx', join('benchmarks', 'bench.ts'), '--quick', ...flags]
  return (await promisify(execFile)(process.execPath, args, { cwd: root })).stdout
}

describe('npm run bench -- --quick', () => {
  let folder: string
  let output: string
  let results: BenchmarkFile
  let page: string

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gptvq-bench-'))
    const [json, markdown] = [join(folder, 'results.json'), join(folder, 'page.md')]
    await cp(join(root, 'docs', 'benchmarks.md'), markdown)
    output = await bench('--json', json, '--markdown', markdown)
    results = JSON.parse(await readFile(json, 'utf8'))
    page = await readFile(markdown, 'utf8')
  }, 120_000)
  afterAll(() => rm(folder, { recursive: true, force: true }))

  const tablesOf = () => Object.values(results.suites).flatMap(({ tables }) => tables)

  it('runs every suite, and names machine and versions', () => {
    expect(Object.keys(results.suites)).toEqual(suites)
    for (const { environment } of Object.values(results.suites)) {
      expect(environment.node).toBe(process.version)
      expect(environment.threads).toBeGreaterThan(0)
      expect(['baseline', 'relaxed']).toContain(environment.kernels)
    }
  })

  it('fills every table with finite figures, those compared positive, and every row has a name of its own', () => {
    for (const { id, rows, keys, compared } of tablesOf()) {
      expect(rows.length, id).toBeGreaterThan(0)
      expect(new Set(rows.map((row) => JSON.stringify(keys.map((key) => row[key])))).size, id).toBe(
        rows.length,
      )
      for (const row of rows) {
        const figures = Object.values(row).filter((value) => typeof value !== 'string' && value !== null)
        expect(figures.every(Number.isFinite), `${id}: ${JSON.stringify(row)}`).toBe(true)
        if (compared !== 'megabytes')
          expect(row[compared], `${id}: ${JSON.stringify(row)}`).toBeGreaterThan(0)
      }
    }
  })

  it('prints every table, and writes it into the section of its suite', () => {
    for (const { title } of tablesOf()) {
      expect(output).toContain(`\n${title}\n`)
      expect(page).toContain(`\n### ${title}\n`)
    }
    const section = page.slice(page.indexOf('<!-- bench:layer -->'), page.indexOf('<!-- /bench:layer -->'))
    expect(section.match(/^### /gm)).toHaveLength(results.suites.layer.tables.length)
  })

  it('ranks GPTVQ over GPTQ over RTN on a real layer at no more bits', () => {
    const { rows } = results.suites.accuracy.tables.find(({ id }) => id === 'real-layers')!
    const row = (method: string) => rows.find((candidate) => candidate.method === method)!
    const [gptvq, gptq, rtn] = ['GPTVQ 2-D', 'GPTQ', 'RTN'].map(row)
    expect(gptvq.bits).toBeLessThanOrEqual(gptq.bits as number)
    expect(gptvq.snr).toBeGreaterThan(gptq.snr as number)
    expect(gptq.snr).toBeGreaterThan(rtn.snr as number)
    expect(gptq.overGptq).toBeCloseTo(0)
  })
})

describe('npm run bench', () => {
  it('refuses an unknown suite, and says which there are', async () => {
    const failure = await bench('speed').catch((error: { code: number; stderr: string }) => error)
    expect(failure).toMatchObject({ code: 2 })
    const { stderr } = failure as { stderr: string }
    for (const text of ['speed', ...suites]) expect(stderr).toContain(text)
  })

  it.each([[[]], [['model']], [['layer', 'model']]])('refuses --size with the suites %j', async (chosen) => {
    const failure = await bench(...chosen, '--size', '64').catch((error: { stderr: string }) => error)
    expect(failure).toMatchObject({ code: 2, stderr: expect.stringContaining('-- layer --size 64') })
  })
})

describe('timing', () => {
  it('takes the middle value, or the mean of the two in the middle', () => {
    expect(medianOf([3, 1, 2])).toBe(2)
    expect(medianOf([4, 1, 3, 2])).toBe(2.5)
    expect(timingOf([3, 1, 2])).toEqual({ seconds: 2, fastest: 1, slowest: 3, runs: 3 })
  })

  it('lets contenders take turns', async () => {
    const calls: string[] = []
    const contender = (name: string) => ({ name, run: () => void calls.push(name) })
    const timings = await timeTogether([contender('a'), contender('b')], {
      rounds: 3,
      warmUpSeconds: 0,
      sampleSeconds: 0,
    })
    expect(calls).toEqual(['a', 'b', 'a', 'b', 'a', 'b', 'a', 'b'])
    expect(timings.get('a')!.runs).toBe(3)
  })
})

describe('tables', () => {
  const table: Table = {
    id: 'products',
    title: 'Products',
    note: 'A note.',
    columns: [
      { key: 'name', label: 'name' },
      { key: 'rate', label: 'GFLOP/s', digits: 3 },
    ],
    rows: [
      { name: 'fast', rate: 1234.5 },
      { name: 'slow', rate: 0.012345 },
      { name: 'none', rate: null },
    ],
    keys: ['name'],
    compared: 'rate',
  }

  it('show three digits without powers of ten, and a dash where there is no figure', () => {
    expect(plainTable(table)).toBe(
      ['Products', 'name  GFLOP/s', '-------------', 'fast     1230', 'slow   0.0123', 'none        -'].join(
        '\n',
      ),
    )
    expect(markdownTable(table).split('\n').slice(-3)).toEqual([
      '| fast |    1230 |',
      '| slow |  0.0123 |',
      '| none |       - |',
    ])
  })

  it('compare rows of the same name, wherever they stand', () => {
    const earlier = {
      ...table,
      rows: [
        { name: 'slow', rate: 0.02469 },
        { name: 'fast', rate: 617.25 },
      ],
    }
    const [compared] = compareTables([table], [earlier])
    expect(compared.rows.map(({ toEarlier }) => toEarlier)).toEqual([2, 0.5, null])
    expect(compareTables([table], [])[0].rows.map(({ toEarlier }) => toEarlier)).toEqual([null, null, null])
  })

  it('replace their section of a page and nothing else', () => {
    const page = 'a\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nb <!-- bench:y --><!-- /bench:y -->'
    const once = replaceSection(page, 'x', 'new')
    expect(once).toBe('a\n<!-- bench:x -->\n\nnew\n\n<!-- /bench:x -->\nb <!-- bench:y --><!-- /bench:y -->')
    expect(replaceSection(once, 'x', 'new')).toBe(once)
    expect(() => replaceSection(page, 'z', 'new')).toThrow('<!-- bench:z -->')
  })
})

describe('synthetic layers', () => {
  it('have inputs whose Hessian is the one stated', () => {
    const inputs = new HessianAccumulator(72)
    inputs.add(correlatedInputs(20_000, 72, 3, 0))
    const [sampled, exact] = [inputs.hessian(), correlatedHessian(72, 3)]
    for (let i = 0; i < 72; i++) {
      for (let j = 0; j < 72; j++) {
        const size = Math.sqrt(exact.data[73 * i] * exact.data[73 * j])
        expect(Math.abs(sampled.data[72 * i + j] - exact.data[72 * i + j]) / size).toBeLessThan(0.05)
      }
    }
  })

  it('can be quantized by every setting of the quick run, in the bits that the bytes take', async () => {
    const [weight, hessian] = [gaussianMatrix(32, 64, 1), correlatedHessian(64, 1)]
    for (const { method, quantize } of settings({ quick: true, large: false })) {
      const { values, bits, bytes } = await quantize(weight, hessian)
      expect(bits, method).toBe((8 * bytes) / (32 * 64))
      expect(reconstructionError(weight, values, hessian).snrDb, method).toBeGreaterThan(0)
    }
  })
})
