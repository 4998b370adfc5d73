import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { matrix, quantizeKmeans } from 'gptvq'
import { quantizeModel } from 'gptvq/model'
import { codebookGroup, indexUsage, type ReportData, reportHtml } from 'gptvq/report'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { randomGenerator, randomNormal } from '../../src/common/random.js'
import { cli } from '../cli/support.js'
import { startBrowser, withoutBrowser } from '../support/browser.js'
import { tinyText, writeTinyModel } from '../support/tiny-model.js'

/** Report of a folder, written by the command line: 14 layers, 3 codebooks. */
const REPORT = 'report.html'
/** A report of everything that one can tell of: long and hostile names, codebooks of each dimension, all charts. */
const FULL_REPORT = 'full-report.html'

const WIDTHS = [360, 1280]
const views = (['light', 'dark'] as const).flatMap((scheme) => WIDTHS.map((width) => ({ scheme, width })))
const cases = [REPORT, FULL_REPORT].flatMap((file) => views.map((view) => ({ file, ...view })))

describe.skipIf(withoutBrowser)('a report in Chromium', () => {
  let folder: string
  let browser: Browser
  const troubles: string[] = []

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gptvq-report-'))
    browser = await startBrowser()
    const { folder: model } = await writeTinyModel(join(folder, 'model'))
    const output = join(folder, 'quantized')
    await quantizeModel({
      model,
      output,
      calibration: { text: tinyText(2000) },
      sequences: 8,
      sequenceLength: 64,
    })
    const { code } = await cli(['report', output, '--out', join(folder, REPORT), '--reference', model])
    expect(code).toBe(0)
    await writeFile(join(folder, FULL_REPORT), reportHtml(fullData()))
  })
  afterAll(async () => {
    await browser?.close()
    await rm(folder, { recursive: true, force: true })
  })

  async function open(file: string, width = 1280, colorScheme: 'light' | 'dark' = 'light'): Promise<Page> {
    const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme })
    page.setDefaultTimeout(10_000)
    troubles.splice(0)
    page.on('console', (message) => troubles.push(message.text()))
    page.on('pageerror', (error) => troubles.push(String(error)))
    page.on('request', (request) => {
      if (!request.url().startsWith('data:') && !request.isNavigationRequest()) troubles.push(request.url())
    })
    await page.goto(pathToFileURL(join(folder, file)).href)
    return page
  }

  it.each(cases)(
    '$file shows all pictures, never scrolls sideways and loads nothing, $scheme at $width',
    async (view) => {
      const page = await open(view.file, view.width, view.scheme)
      const pictures = page.locator('svg.gptvq-picture:visible')
      const figures = await page.locator('figure').count()
      expect(figures).toBe(view.file === REPORT ? 6 : 10)
      expect(await pictures.count()).toBe(figures)
      for (const picture of await pictures.all()) {
        const { width, height } = (await picture.boundingBox())!
        expect(Math.min(width, height)).toBeGreaterThan(100)
      }
      expect(await misplacedTexts(page)).toEqual([])
      expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(view.width)
      expect(troubles).toEqual([])
      await page.close()
    },
  )

  it.each(views)('text stands out from its ground, $scheme at $width', async ({ scheme, width }) => {
    const page = await open(REPORT, width, scheme)
    const [paper, ...inks] = await page.evaluate<string[]>(
      `['html', 'h1', '.lead', 'td', '.more'].map((selector, i) =>
        getComputedStyle(document.querySelector(selector))[i === 0 ? 'backgroundColor' : 'color'])`,
    )
    expect(luminance(paper) > 0.5).toBe(scheme === 'light')
    // WCAG 2.2, level AA
    for (const ink of inks) expect(contrast(paper, ink)).toBeGreaterThan(4.5)
    await page.close()
  })

  it.each([
    ['a click', (page: Page, column: string) => headOf(page, column).click()],
    ['Enter', (page: Page, column: string) => headOf(page, column).press('Enter')],
    ['Space', (page: Page, column: string) => headOf(page, column).press('Space')],
  ])('%s on the head of a column sorts the table by it, a second one the other way', async (_, activate) => {
    const page = await open(REPORT)
    for (const column of ['Relative error', 'Layer', 'Shape', 'Bits per value', 'SNR, dB']) {
      const before = await columnOf(page, column)
      await activate(page, column)
      const rising = await columnOf(page, column)
      expect(rising).toEqual([...before].sort(byValue))
      expect(await page.locator('th[aria-sort=ascending]').innerText()).toBe(column)
      await activate(page, column)
      expect(await columnOf(page, column)).toEqual([...before].sort((a, b) => byValue(b, a)))
      expect(await page.locator('th[aria-sort=descending]').innerText()).toBe(column)
    }
    expect(await page.locator('.sortable tbody tr').count()).toBe(14)
    await page.close()
  })

  it('sorting moves whole rows', async () => {
    const page = await open(REPORT)
    const rows = async () => (await page.locator('.sortable tbody tr').allInnerTexts()).sort()
    const before = await rows()
    await headOf(page, 'Relative error').click()
    expect(await rows()).toEqual(before)
    await page.close()
  })
})

const headOf = (page: Page, column: string) => page.getByRole('button', { name: column, exact: true })

/** What the cells of a column sort by. */
function columnOf(page: Page, column: string): Promise<string[]> {
  return page.evaluate(`(() => {
    const table = document.querySelector('.sortable')
    const at = [...table.tHead.rows[0].cells].findIndex((cell) => cell.innerText === ${JSON.stringify(column)})
    return [...table.tBodies[0].rows].map((row) => row.cells[at].dataset.value)
  })()`)
}

function byValue(a: string, b: string): number {
  if (!Number.isNaN(Number(a))) return Number(a) - Number(b)
  return a < b ? -1 : Number(a > b)
}

/** Texts that reach beyond the edges of their picture, and pairs that overlap. */
function misplacedTexts(page: Page): Promise<string[]> {
  return page.evaluate(`[...document.querySelectorAll('svg.gptvq-picture')].flatMap((picture) => {
    const outer = picture.getBoundingClientRect()
    const texts = [...picture.querySelectorAll('text')].map((text) => [text.textContent, text.getBoundingClientRect()])
    const misplaced = []
    texts.forEach(([text, box], i) => {
      const across = box.left >= outer.left - 1 && box.right <= outer.right + 1
      if (!across || box.top < outer.top - 1 || box.bottom > outer.bottom + 1) misplaced.push(text)
      for (const [other, at] of texts.slice(0, i)) {
        const wide = Math.min(box.right, at.right) - Math.max(box.left, at.left)
        const high = Math.min(box.bottom, at.bottom) - Math.max(box.top, at.top)
        // lines of one text come closer than their boxes
        if (wide > 1 && high > 4) misplaced.push(other + ' / ' + text)
      }
    })
    return misplaced
  })`)
}

/** Relative luminance of `rgb(r, g, b)`, WCAG 2.2. */
function luminance(color: string): number {
  const [r, g, b] = color.match(/\d+/g)!.map((part) => {
    const share = Number(part) / 255
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
  })
  return 0.2126 * r + 0.7152 * g + 0.0722 * b
}

function contrast(a: string, b: string): number {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y)
  return (high + 0.05) / (low + 0.05)
}

function fullData(): ReportData {
  const random = randomGenerator(3)
  const long = 'a_module_whose_name_has_no_place_to_break_and_goes_on_and_on_and_on'
  const names = ['<script>alert(1)</script>', `model.layers.10.${long}`, 'model.layers.11.mlp.up_proj']
  const quantized = ([1, 2, 4] as const).map((vectorDim) => {
    const weight = matrix(
      64,
      64,
      Float32Array.from({ length: 4096 }, () => 30 * randomNormal(random)),
    )
    return {
      weight,
      layer: quantizeKmeans(weight, { vectorDim, bits: 2, groupSize: 4096, columnsPerGroup: 64 }),
    }
  })
  const losses = Array.from({ length: 30 }, (_, i) => 123456 / (i + 1))
  return {
    model: `/models/${long}/${long}`,
    architecture: 'LlamaForCausalLM',
    method: 'gptvq',
    version: '1.2.3',
    settings: { vectorDim: 2, bits: 2, note: long.repeat(3) },
    layers: quantized.map(({ layer }, i) => ({
      name: names[i],
      rows: 64,
      cols: 64,
      format: `vq ${layer.layout.vectorDim}-D, 2 bits`,
      bytes: 1100 + i,
      bytesBefore: 8192,
      relativeError: i === 0 ? null : 0.01 * i,
      usage: indexUsage(layer),
      seconds: 1.5,
    })),
    kept: { tensors: 3, bytes: 12345678901 },
    codebooks: quantized.map(({ weight, layer }, i) => ({
      layer: names[i],
      group: 0,
      ...codebookGroup(layer, 0, weight),
    })),
    calibration: { sequences: 8, length: 64, notes: ['<b>the text was short</b>'] },
    seconds: { calibration: 1, quantization: 2, total: 3 },
    scores: [{ name: 'perplexity', value: 69.6 }],
    convergence: [{ curves: [{ name: 'EM', values: losses }], scale: 'log' }],
    comparison: {
      points: [2, 3, 4].map((bits) => ({ method: 'GPTVQ 2-D', bits, value: 2 ** -bits })),
    },
  }
}
