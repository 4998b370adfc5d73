import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startBrowser, withoutBrowser } from './support/browser.js'
import { type QuantizedInPage, quantizeInPage } from './support/quantize-in-page.js'

/**
 * Kernels in two builds as base64 text are 134 KB of it, 64 KB of these for large codebooks and 30 KB for trellises; the
 * constant codebooks of trellises are 38 KB; ml-matrix, which cannot be shaken, is 70 KB.
 */
const MOST_BYTES = 352 * 1024
/** Packing is loops over typed arrays, and layers with a trellis need its constant codebooks; no more than that. */
const MOST_BYTES_OF_READER = 48 * 1024

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

async function bundle(source: string) {
  const { outputFiles, metafile } = await build({
    stdin: { contents: source, resolveDir: path('.'), loader: 'ts' },
    alias: { gptvq: path('../src/index.ts') },
    bundle: true,
    platform: 'browser',
    conditions: ['browser', 'import'],
    format: 'esm',
    target: 'es2022',
    minify: true,
    metafile: true,
    write: false,
    logLevel: 'silent',
  })
  const [output] = Object.values(metafile.outputs)
  const parts = [...Object.values(metafile.inputs), output]
  return {
    code: outputFiles[0].text,
    bytes: output.bytes,
    files: Object.entries(output.inputs).flatMap(([file, { bytesInOutput }]) =>
      bytesInOutput > 0 ? [file] : [],
    ),
    external: parts.flatMap(({ imports }) => imports.filter(({ external }) => external)),
  }
}

describe('gptvq bundled for a browser', () => {
  it('brings along no engine, no tokenizer, no pictures and nothing of Node', async () => {
    const { code, bytes, files, external } = await bundle(`export * from 'gptvq'`)
    expect(files.some((file) => file.endsWith('src/kernels/wasm/runtime/binaries.ts'))).toBe(true)
    expect(
      files.filter((file) => /tensorflow|huggingface|linkedom|observablehq|^\(disabled\)/.test(file)),
    ).toEqual([])
    expect(files.filter((file) => /src\/(model|checkpoint|pipeline|report|cli)\//.test(file))).toEqual([])
    expect(external).toEqual([])
    expect(code).not.toMatch(/\b(from|import)\s*\(?["'](?!\.)/)
    expect(bytes).toBeLessThan(MOST_BYTES)
  })

  it('leaves the kernels, ml-matrix and ml-kmeans out where layers are only read', async () => {
    const { bytes, files } = await bundle(`export { dequantizeLayer, packLayer, unpackLayer } from 'gptvq'`)
    expect(files.filter((file) => /node_modules|src\/(kernels\/wasm|gptvq|baselines)\//.test(file))).toEqual(
      [],
    )
    expect(bytes).toBeLessThan(MOST_BYTES_OF_READER)
  })
})

describe.skipIf(withoutBrowser)('gptvq in Chromium', () => {
  let browser: Browser
  let page: Page
  const troubles: string[] = []

  beforeAll(async () => {
    const { code } = await bundle(`export { quantizeInPage } from './support/quantize-in-page.js'`)
    browser = await startBrowser()
    page = await browser.newPage()
    page.on('pageerror', (error) => troubles.push(String(error)))
    page.on('console', (message) => troubles.push(message.text()))
    // an ordinary page: without the headers that isolate it, so without shared array buffers of its own
    await page.route('https://page.test/**', (route) =>
      route.request().url().endsWith('.js')
        ? route.fulfill({ contentType: 'text/javascript', body: code })
        : route.fulfill({ contentType: 'text/html', body: '<!doctype html><link rel="icon" href="data:,">' }),
    )
    await page.goto('https://page.test/')
  })
  afterAll(() => browser?.close())

  const inPage = (kernels: string): Promise<QuantizedInPage> =>
    page.evaluate(
      `import('https://page.test/gptvq.js').then((module) => module.quantizeInPage('${kernels}'))`,
    )

  it('quantizes a layer to the bytes that Node gives with the same build of the kernels', async () => {
    expect(await inPage('baseline')).toEqual(await quantizeInPage('baseline'))
    expect(troubles).toEqual([])
  })

  it('quantizes as well with the build that the page itself chooses', async () => {
    const chosen = await inPage('best')
    const { relativeError } = await quantizeInPage('baseline')
    // fused multiply-adds round otherwise, and nearly tied indices may fall the other way
    expect(chosen.relativeError / relativeError).toBeGreaterThan(0.97)
    expect(chosen.relativeError / relativeError).toBeLessThan(1.03)
    expect(troubles).toEqual([])
  })
})
