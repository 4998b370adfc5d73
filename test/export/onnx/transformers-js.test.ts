import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ExportOnnxOptions, exportOnnx } from '../../../src/export/onnx/export-onnx.js'
import { openGenerator } from '../../../src/generate/open-generator.js'
import { forwardLogits } from '../../../src/model/passes/forward-logits.js'
import { openModel } from '../../../src/pipeline/folders/open-model.js'
import { quantizeModel } from '../../../src/pipeline/quantize/quantize-model.js'
import { rangeOf, worstDifference } from '../../model/families/fixture.js'
import { startBrowser, withoutBrowser } from '../../support/browser.js'
import { tinyText, writeTinyModel } from '../../support/tiny-model.js'
import type { logitsInPage, writeInPage } from './write-in-page.js'

const embedded = fileURLToPath(new URL('../../../examples/models/tiny-llama', import.meta.url))
const guide = fileURLToPath(new URL('../../../docs/transformers-js.md', import.meta.url))
const prompt = 'The king'
const maxTokens = 24

let root: string
/** What we write with each quantized model, the likeliest token each time. */
const ours = new Map<string, string>()

/** Exported folders: of which model, and how. */
const folders: Record<string, Pick<ExportOnnxOptions, 'model' | 'weights' | 'inlineBytes'>> = {
  packed: { model: 'scalars' },
  nbits: { model: 'scalars', weights: 'nbits' },
  external: { model: 'scalars', inlineBytes: 0 },
  trellis: { model: 'trellis' },
  // the name that the guide gives it
  'my-model': { model: 'scalars' },
}

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'gptvq-transformers-'))
  const of = (name: string) => join(root, 'models', name)
  await quantizeModel({ model: embedded, output: of('scalars'), method: 'rtn', bits: 4, groupSize: 32 })
  await writeTinyModel(of('random'))
  const cheap = { calibration: { text: tinyText(256) }, sequences: 2, refinementRounds: 0 }
  await quantizeModel({ model: of('random'), output: of('trellis'), bits: 2, ...cheap })
  for (const name of ['scalars', 'trellis']) ours.set(name, await written(of(name)))
  for (const [name, { model, ...options }] of Object.entries(folders)) {
    await exportOnnx({ model: of(model), output: join(root, 'onnx', name), ...options })
  }
})

async function written(model: string): Promise<string> {
  const generator = await openGenerator({ model })
  let text = ''
  for await (const token of generator.generate({ prompt, temperature: 0, maxTokens })) text += token.text
  await generator.close()
  return text
}

afterAll(() => rm(root, { recursive: true, force: true }))

describe('transformers.js in Node, offline', () => {
  it.each(Object.keys(folders))('loads %s by its path and writes what we write', async (name) => {
    const { env, pipeline } = await import('@huggingface/transformers')
    Object.assign(env, { allowRemoteModels: false, localModelPath: `${root}/onnx/` })
    const session_options = { intraOpNumThreads: 1 }
    const generator = await pipeline('text-generation', name, { session_options })
    const [found] = await generator(prompt, { max_new_tokens: maxTokens, do_sample: false })
    expect(found).toEqual({ generated_text: prompt + ours.get(folders[name].model) })
    await generator.dispose()
  })
})

describe.skipIf(withoutBrowser)('transformers.js in Chromium, on WebAssembly', () => {
  let browser: Browser
  let page: Page

  beforeAll(async () => {
    const [, imports, body] = /```js\n(import .*\n)([\s\S]*?)```/.exec(await readFile(guide, 'utf8'))!
    const { outputFiles } = await build({
      stdin: {
        contents: `${imports}
          export { logitsInPage, preparePage, writeInPage } from './write-in-page.js'
          export async function runGuide() { ${body}; return written.generated_text }`,
        resolveDir: fileURLToPath(new URL('.', import.meta.url)),
        loader: 'ts',
      },
      bundle: true,
      platform: 'browser',
      conditions: ['browser', 'import'],
      format: 'esm',
      target: 'es2022',
      write: false,
      logLevel: 'silent',
    })
    const runtime = dirname(createRequire(import.meta.url).resolve('onnxruntime-web'))
    browser = await startBrowser()
    page = await browser.newPage()
    await page.route('https://page.test/**', async (route) => {
      const { pathname } = new URL(route.request().url())
      const [, place, ...rest] = decodeURIComponent(pathname).split('/')
      if (place === 'page.js') {
        return route.fulfill({ contentType: 'text/javascript', body: outputFiles[0].text })
      }
      if (place !== 'models' && place !== 'ort') {
        return route.fulfill({
          contentType: 'text/html',
          body: '<!doctype html><link rel="icon" href="data:,">',
        })
      }
      const folder = place === 'ort' ? runtime : join(root, 'onnx')
      const body = await readFile(join(folder, ...rest)).catch(() => undefined)
      const contentType = pathname.endsWith('js') ? 'text/javascript' : 'application/octet-stream'
      return route.fulfill(body ? { contentType, body } : { status: 404, body: 'none' })
    })
    await page.goto('https://page.test/')
  })
  afterAll(() => browser?.close())

  const inPage = <T>(call: string) =>
    page.evaluate<T>(`import('https://page.test/page.js').then((own) => own.${call})`)

  it.each(Object.keys(folders))('loads %s and writes what we write', async (name) => {
    const call: Parameters<typeof writeInPage> = [name, prompt, maxTokens]
    const found = await inPage(`writeInPage(...${JSON.stringify(call)})`)
    expect(found).toBe(prompt + ours.get(folders[name].model))
  })

  it.each(['packed', 'nbits', 'trellis'])('gives the logits of %s that we give', async (name) => {
    const tokens = [5, 67, 89, 101, 12, 34, 56, 78]
    const call: Parameters<typeof logitsInPage> = [name, tokens]
    const found: number[] = await inPage(`logitsInPage(...${JSON.stringify(call)})`)
    const opened = await openModel(join(root, 'models', folders[name].model))
    const wanted = await forwardLogits(opened.source, opened.config, Int32Array.from(tokens), 1)
    await opened.close()
    expect(worstDifference(Float32Array.from(found), wanted) / rangeOf(wanted)).toBeLessThan(1e-4)
  })

  it('runs what the guide has for a page', async () => {
    await inPage('preparePage()')
    expect(await inPage('runGuide()')).toBe(prompt + ours.get('scalars'))
  })
})
