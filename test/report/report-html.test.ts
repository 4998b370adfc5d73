import { runInNewContext } from 'node:vm'
import { parseHTML } from 'linkedom'
import { describe, expect, test } from 'vitest'
import { quantizeKmeans } from '../../src/baselines/kmeans.js'
import { quantizeFlags } from '../../src/cli/flags/flags.js'
import { parseFlags, requireFlags } from '../../src/cli/parse/parse-flags.js'
import { bitsPerValue, packedBytes } from '../../src/packing/bits-per-value.js'
import { packLayer } from '../../src/packing/pack-layer.js'
import { codebookGroup } from '../../src/report/codebooks/codebook-group.js'
import { indexUsage } from '../../src/report/codebooks/index-usage.js'
import type { ReportData, ReportLayer } from '../../src/report/page/report-data.js'
import { reportHtml } from '../../src/report/page/report-html.js'
import { reproduceCommand } from '../../src/report/page/reproduce-command.js'
import { gaussianMatrix } from '../support/random-matrix.js'
import { expectWellFormed, expectWholeNumbers, hostileName, type ParsedElement } from './support.js'

const weight = gaussianMatrix(16, 32, 1)
const quantized = quantizeKmeans(weight, { vectorDim: 2, bits: 2, groupSize: 512 })
const packed = packLayer(quantized)

const layer = (name: string, relativeError: number | null): ReportLayer => ({
  name,
  rows: 16,
  cols: 32,
  format: 'vq 2-D, 2 bits',
  bytes: packedBytes(packed),
  bytesBefore: 1024,
  relativeError,
  bitsPerValue: bitsPerValue(packed),
  usage: indexUsage(quantized),
})

const data: ReportData = {
  model: 'out/tiny-2bit',
  architecture: 'LlamaForCausalLM',
  method: 'gptvq',
  settings: {
    vectorDim: 2,
    bits: 2,
    codebookBits: 8,
    kmeansInit: 'kmeans++',
    damping: 0.01,
    seed: 0,
    groupSize: 512,
  },
  layers: [
    layer('model.layers.0.mlp.up_proj', 0.03),
    layer('model.layers.0.mlp.down_proj', 0.001),
    layer('model.layers.1.mlp.up_proj', 0.2),
    layer('model.layers.10.mlp.up_proj', null),
  ],
  kept: { tensors: 3, bytes: 4000 },
  codebooks: [{ layer: 'model.layers.0.mlp.up_proj', group: 0, ...codebookGroup(quantized, 0, weight) }],
}

const everything: ReportData = {
  ...data,
  source: './my model',
  version: '1.2.3',
  calibration: { file: 'text.txt', sequences: 48, length: 256, notes: ['repeated once'] },
  seconds: { calibration: 1, quantization: 2, total: 3 },
  scores: [{ name: 'perplexity', value: 80.25 }],
  convergence: [{ curves: [{ name: 'training text', values: [2, 1] }], step: 'epoch', measure: 'KL' }],
  comparison: { points: [{ method: 'RTN', bits: 2, value: 0.1 }], measure: 'KL divergence' },
}

interface ParsedPage {
  readonly documentElement: ParsedElement
  querySelector(selector: string): ParsedElement | null
  querySelectorAll(selector: string): Iterable<ParsedElement>
}

const parsed = (html: string): ParsedPage => parseHTML(html).document
const all = (page: ParsedPage, selector: string) => [...page.querySelectorAll(selector)]
const texts = (page: ParsedPage, selector: string) =>
  all(page, selector).map(({ textContent }) => textContent)
const pictures = (page: ParsedPage) => texts(page, 'figure .wide svg > title')

describe('the page', () => {
  test('shows what there is: summary, bytes, layers, pictures, settings, command', () => {
    const page = parsed(reportHtml(everything))
    expect(texts(page, 'h1')).toEqual(['out/tiny-2bit'])
    expect(texts(page, 'h2')).toEqual([
      'Bytes before and after',
      'Errors by layer',
      'Layers',
      'Codebooks',
      'Use of the codebooks',
      'Convergence',
      'Comparison',
      'Settings',
      'Reproduce',
    ])
    expect(all(page, 'table.sortable tbody tr').length).toBe(4)
    expect(texts(page, '.cards .figure')).toContain('80.3')
    // 512 weights of 2 bits, 16 centroids of 2 bytes, one scale: 128 + 32 + 2 bytes
    expect(texts(page, '.cards .figure')[0]).toBe(((8 * 162) / 512).toFixed(3))
    expect(page.documentElement.textContent).toContain('indices 2.0000, codebooks 0.5000, scales 0.0313')
    expect(texts(page, '.pairs dd')).toContain('48 sequences of 256 tokens')
  })

  test('has every picture twice, for wide and for narrow screens', () => {
    const page = parsed(reportHtml(everything))
    expect(pictures(page)).toEqual([
      'Signal to noise of each layer',
      'Sensitivity: relative error by block and kind',
      'model.layers.0.mlp.up_proj, group 0',
      'How 16 centroids are used',
      'KL by epoch',
      'Quality against size',
    ])
    const widthsOf = (kind: string) =>
      all(page, `figure .${kind} svg`).map((svg) => Number(svg.getAttribute('width')))
    expect(widthsOf('narrow').length).toBe(6)
    for (const width of widthsOf('narrow')) expect(width).toBeLessThanOrEqual(328)
    for (const width of widthsOf('wide')) expect(width).toBeGreaterThan(328)
  })

  test('is one file: nothing is loaded from elsewhere, and one style serves all pictures', () => {
    const html = reportHtml(everything)
    const page = parsed(html)
    for (const element of all(page, '*')) {
      for (const { name, value } of element.attributes) {
        if (['src', 'href', 'xlink:href', 'srcset', 'action'].includes(name)) expect(value).toBe('data:,')
      }
    }
    expect(html).not.toMatch(/@import|url\(/)
    expect(html.replaceAll('http://www.w3.org/2000/svg', '')).not.toMatch(/https?:/)
    expect(all(page, 'style').length).toBe(1)
    expect(all(page, 'script').length).toBe(1)
  })

  test('holds no broken number and no value that was left out', () => {
    for (const report of [data, everything]) {
      const page = parsed(reportHtml(report))
      expectWholeNumbers(page.documentElement)
      const body = page.querySelector('main')?.textContent ?? ''
      expect(body).not.toMatch(/NaN|undefined|\[object/)
    }
  })

  test('is well-formed in all its parts, ids are not used twice', () => {
    const html = reportHtml(everything)
    const main = html.slice(html.indexOf('<main>'), html.indexOf('</main>') + 7).replaceAll('<wbr>', '')
    expectWellFormed(main)
    const ids = all(parsed(html), '[id]').map((element) => element.getAttribute('id'))
    expect(new Set(ids).size).toBe(ids.length)
  })

  test('the same data give the same text', () => {
    expect(reportHtml(everything)).toBe(reportHtml(everything))
  })

  test('of a method without codebooks and errors says so', () => {
    const layers = data.layers.map(({ usage: _, ...rest }) => ({ ...rest, relativeError: null }))
    const page = parsed(reportHtml({ ...data, method: 'rtn', layers, codebooks: [] }))
    expect(pictures(page)).toEqual([])
    expect(page.documentElement.textContent).toContain('No errors were measured')
    expect(texts(page, 'h2')).not.toContain('Codebooks')
  })

  test('of a trained model tells why there are no errors, and each of its settings', () => {
    const layers = data.layers.map((layer) => ({ ...layer, relativeError: null }))
    const training = { method: 'qat', learningRate: 0.5 }
    const made = { command: 'train' }
    const page = parsed(reportHtml({ ...data, layers, made, settings: { bits: 2, training } }))
    expect(page.documentElement.textContent).toContain('training goes by the predictions')
    const pairs = [texts(page, '.pairs dt'), texts(page, '.pairs dd')]
    const at = pairs[0].indexOf('training: learningRate')
    expect(pairs[1][at]).toBe('0.5')
    expect(pairs[0]).not.toContain('training')
  })

  test('escapes everything that comes from outside', () => {
    const attack = hostileName
    const page = parsed(
      reportHtml({
        ...everything,
        model: attack,
        architecture: attack,
        method: attack,
        source: attack,
        version: attack,
        settings: { [attack]: attack },
        layers: [{ ...layer(attack, 0.1), format: attack }],
        codebooks: [{ ...everything.codebooks![0], layer: attack }],
        calibration: { file: attack, sequences: 1, length: 2, notes: [attack] },
        scores: [{ name: attack, value: 1 }],
        convergence: [
          { curves: [{ name: attack, values: [1] }], step: attack, measure: attack, title: attack },
        ],
        comparison: { points: [{ method: attack, bits: 1, value: 1 }], measure: attack, title: attack },
      }),
    )
    expect(all(page, 'script').length).toBe(1)
    expect(all(page, 'main script').length).toBe(0)
    expect(texts(page, 'h1')[0]).toContain(`</title><script>alert("x")</script>&amp;'`)
    expect(page.querySelector('main')?.textContent).not.toMatch(/\p{Cs}|[^\P{Cc}\n]/u)
    for (const element of all(page, '*')) {
      for (const { name } of element.attributes) expect(name).not.toMatch(/^on/)
    }
  })

  test('refuses data that cannot be right, by the name of the layer', () => {
    const [first] = data.layers
    expect(() => reportHtml({ ...data, layers: [] })).toThrow(/^layers: is empty/)
    expect(() => reportHtml({ ...data, layers: [first, first] })).toThrow(/up_proj comes twice/)
    expect(() => reportHtml({ ...data, layers: [{ ...first, bytes: Number.NaN }] })).toThrow(
      /bytes of .*up_proj is NaN/,
    )
    expect(() => reportHtml({ ...data, layers: [{ ...first, cols: 0 }] })).toThrow(/cols of .*up_proj is 0/)
    expect(() => reportHtml({ ...data, layers: [{ ...first, driftMove: -1 }] })).toThrow(
      /driftMove of .*up_proj is -1/,
    )
    expect(() => reportHtml({ ...data, kept: { tensors: 1, bytes: -1 } })).toThrow(/^kept: /)
    expect(() => reportHtml({ ...data, scores: [{ name: 'x', value: Number.NaN }] })).toThrow(
      /^scores: x is NaN/,
    )
  })
})

describe('the table of layers', () => {
  /** Runs the page's script on the page, and gives back what a click on a head leaves. */
  const clicked = (...heads: string[]) => {
    const { document } = parseHTML(reportHtml(data))
    const table = document.querySelector('table.sortable')
    // the parser knows no tHead, tBodies, rows and cells of a table
    const cellsOf = (row: typeof table) => [...row.children]
    const rowsOf = (part: typeof table) => [...part.querySelectorAll('tr')]
    const define = (target: object, name: string, get: () => unknown) =>
      Object.defineProperty(target, name, { get })
    const [head, body] = [table.querySelector('thead'), table.querySelector('tbody')]
    define(table, 'tHead', () => head)
    define(table, 'tBodies', () => [body])
    for (const part of [head, body]) define(part, 'rows', () => rowsOf(part))
    for (const row of rowsOf(table)) define(row, 'cells', () => cellsOf(row))
    runInNewContext(document.querySelector('script').textContent, { document, Intl })
    for (const title of heads) {
      for (const button of head.querySelectorAll('button')) if (button.textContent === title) button.click()
    }
    return {
      names: rowsOf(body).map((row) => String(cellsOf(row)[0].getAttribute('data-value'))),
      sorted: cellsOf(rowsOf(head)[0]).map((cell) => cell.getAttribute('aria-sort')),
    }
  }
  const names = data.layers.map(({ name }) => name)
  const [up0, down0, up1, up10] = names

  test('stands in the order of the model', () => {
    expect(clicked().names).toEqual(names)
  })

  test('shows how far layers were moved for drift, where that was done at all', () => {
    expect(reportHtml(data)).not.toContain('Moved for drift')
    const moved = data.layers.map((layer, i) => (i === 1 ? { ...layer, driftMove: 0.1234 } : layer))
    const { document } = parseHTML(reportHtml({ ...data, layers: moved }))
    const rows = [...document.querySelectorAll('table.sortable tr')].map((row) =>
      [...row.children].map(({ textContent }) => textContent),
    )
    const column = rows[0].indexOf('Moved for drift')
    expect(rows.slice(1).map((cells) => cells[column])).toEqual(['–', '0.123', '–', '–'])
  })

  test('sorts by numbers, then the other way round; what was not measured stays last', () => {
    expect(clicked('Relative error').names).toEqual([down0, up0, up1, up10])
    expect(clicked('Relative error', 'Relative error').names).toEqual([up1, up0, down0, up10])
    expect(clicked('SNR, dB').names).toEqual([up1, up0, down0, up10])
  })

  test('sorts names with their numbers as numbers, and says by what it is sorted', () => {
    const { names, sorted } = clicked('Relative error', 'Layer')
    expect(names).toEqual([down0, up0, up1, up10])
    expect(sorted.filter((state) => state !== 'none')).toEqual(['ascending'])
    expect(sorted[0]).toBe('ascending')
  })

  test('every head is a button that a keyboard reaches', () => {
    const page = parsed(reportHtml(data))
    const heads = all(page, 'table.sortable thead th')
    expect(heads.length).toBeGreaterThan(4)
    for (const head of heads) expect(head.querySelectorAll('button[type=button]').length).toBe(1)
  })
})

describe('the command', () => {
  test.each([
    data,
    everything,
    { ...data, method: 'gptq', settings: { bits: 2, groupSize: 128, damping: 0.01 } },
  ])('is one that the command line takes, with the same settings', (report: ReportData) => {
    const [program, command, ...args] = reproduceCommand(report).match(/"[^"]*"|\S+/g) ?? []
    expect([program, command]).toEqual(['gptvq', 'quantize'])
    const given = parseFlags(
      command,
      args.map((argument) => argument.replaceAll('"', '')),
      quantizeFlags,
    )
    requireFlags(command, given, quantizeFlags)
    expect(given.values).toMatchObject({ ...report.settings, method: report.method, out: report.model })
    expect(given.positionals).toEqual([report.source ?? 'MODEL'])
    expect(given.values.calibration).toBe(report.calibration?.file ?? 'FILE')
    expect(given.values.sequenceLength).toBe(report.calibration?.length)
  })

  test('of a method without calibration asks for none', () => {
    expect(reproduceCommand({ ...data, method: 'rtn', settings: { bits: 4 } })).toBe(
      'gptvq quantize MODEL --out out/tiny-2bit --method rtn --bits 4',
    )
  })

  test('stands on the page whole, for copying, or as it was given', () => {
    const shown = (report: ReportData) => texts(parsed(reportHtml(report)), 'pre code')
    expect(shown(data)).toEqual([reproduceCommand(data)])
    expect(shown({ ...data, command: 'make --model' })).toEqual(['make --model'])
  })
})
