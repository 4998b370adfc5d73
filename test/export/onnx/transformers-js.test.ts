import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exportOnnx } from '../../../src/export/onnx/export-onnx.js'
import { openGenerator } from '../../../src/generate/open-generator.js'
import { quantizeModel } from '../../../src/pipeline/quantize/quantize-model.js'
import { startBrowser, withoutBrowser } from '../../support/browser.js'
import type { writeInPage } from './write-in-page.js'

const embedded = fileURLToPath(new URL('../../../examples/models/tiny-llama', import.meta.url))
const prompt = 'The king'
const maxTokens = 24

let root: string
/** What we write with the quantized model, the likeliest token each time. */
let ours: string

/** The names of the exported folders, and how their weights lie in them. */
const folders = { packed: 'packed', nbits: 'nbits', external: 'packed' } as const

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'gptvq-transformers-'))
  const model = join(root, 'quantized')
  await quantizeModel({ model: embedded, output: model, method: 'rtn', bits: 4, groupSize: 32 })
  for (const [name, weights] of Object.entries(folders)) {
    const inlineBytes = name === 'external' ? 0 : undefined
    await exportOnnx({ model, output: join(root, name), weights, inlineBytes })
  }
  const generator = await openGenerator({ model })
  ours = ''
  for await (const { text } of generator.generate({ prompt, temperature: 0, maxTokens })) ours += text
  await generator.close()
})

afterAll(() => rm(root, { recursive: true, force: true }))

describe('transformers.js in Node, offline', () => {
  it.each(Object.keys(folders))('loads %s by its path and writes what we write', async (name) => {
    const { env, pipeline } = await import('@huggingface/transformers')
    Object.assign(env, { allowRemoteModels: false, localModelPath: `${root}/` })
    const session_options = { intraOpNumThreads: 1 }
    const generator = await pipeline('text-generation', name, { session_options })
    const [written] = await generator(prompt, { max_new_tokens: maxTokens, do_sample: false })
    expect(written).toEqual({ generated_text: prompt + ours })
    await generator.dispose()
  })
})

describe.skipIf(withoutBrowser)('transformers.js in Chromium, on WebAssembly', () => {
  let browser: Browser
  let page: Page

  beforeAll(async () => {
    const { outputFiles } = await build({
      entryPoints: [fileURLToPath(new URL('write-in-page.ts', import.meta.url))],
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
      const body = await readFile(join(place === 'ort' ? runtime : root, ...rest)).catch(() => undefined)
      const contentType = pathname.endsWith('js') ? 'text/javascript' : 'application/octet-stream'
      return route.fulfill(body ? { contentType, body } : { status: 404, body: 'none' })
    })
    await page.goto('https://page.test/')
  })
  afterAll(() => browser?.close())

  it.each(Object.keys(folders))('loads %s and writes what we write', async (name) => {
    const call: Parameters<typeof writeInPage> = [name, prompt, maxTokens]
    const written = await page.evaluate(
      `import('https://page.test/page.js').then(({ writeInPage }) => writeInPage(...${JSON.stringify(call)}))`,
    )
    expect(written).toBe(prompt + ours)
  })
})
