import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openGgufModel } from '../src/gguf/open-gguf-model-browser.js'
import { bestBuild } from '../src/kernels/wasm/runtime/runtime.js'
import { startBrowser, withoutBrowser } from './support/browser.js'
import { type ModelInPage, modelInPage } from './support/model-in-page.js'
import { writeTinyModel } from './support/tiny-model.js'

const root = fileURLToPath(new URL('..', import.meta.url))

async function bundle(contents: string) {
  const { outputFiles, metafile } = await build({
    stdin: { contents, resolveDir: join(root, 'test'), loader: 'ts' },
    alias: {
      'gptvq/model': join(root, 'src/browser/model.ts'),
      'gptvq/generate': join(root, 'src/browser/generate.ts'),
    },
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
    files: Object.keys(metafile.inputs),
    kernelBytes: Object.entries(output.inputs)
      .filter(([file]) => /wasm\/runtime\/(forward-)?binaries\.ts$/.test(file))
      .reduce((sum, [, { bytesInOutput }]) => sum + bytesInOutput, 0),
    external: parts.flatMap(({ imports }) => imports.filter(({ external }) => external)),
  }
}

/** How far a size may be from the one that the guide states: a bundle that grows by more is looked at, or the guide changed. */
const ROOM = 0.02

/** The sizes in the guide, in bytes. */
async function statedSizes() {
  const guide = await readFile(join(root, 'docs', 'browser.md'), 'utf8')
  const sentence =
    /(\d+) KB for all of `gptvq\/model`, (\d+) KB for `gptvq\/generate`, of which (\d+) KB are the kernels/
  const [model, generate, kernels] = (sentence.exec(guide)?.slice(1) ?? []).map((size) => Number(size) * 1000)
  return { model, generate, kernels }
}

describe.each(['model', 'generate'] as const)('gptvq/%s bundled for a browser', (entry) => {
  it('brings along nothing of Node, no tfjs, no hub, no reader of GGUF, and nothing that writes files', async () => {
    const { files, external } = await bundle(`export * from 'gptvq/${entry}'`)
    expect(external).toEqual([])
    expect(
      files.filter((file) =>
        /tensorflow|@huggingface\/(hub|gguf)|\(disabled\)|src\/(hub|cli)\/|src\/gguf\/(?!open-gguf-model-browser)/.test(
          file,
        ),
      ),
    ).toEqual([])
    expect(files.filter((file) => /checkpoint\/output|generate\/server/.test(file))).toEqual([])
  })

  it('is as large as the guide says, and so are the kernels in it', async () => {
    const { bytes, kernelBytes } = await bundle(`export * from 'gptvq/${entry}'`)
    const stated = await statedSizes()
    expect(Math.abs(bytes / stated[entry] - 1)).toBeLessThan(ROOM)
    expect(Math.abs(kernelBytes / stated.kernels - 1)).toBeLessThan(ROOM)
  })
})

it('a GGUF file is refused by name in a browser', async () => {
  await expect(openGgufModel({ place: 'model.gguf' })).rejects.toThrow(
    /^model\.gguf: GGUF files are read in Node only/,
  )
})

it('every file that stands in for another in a browser is there, in the sources and in what is published', async () => {
  const { browser } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as {
    browser: Record<string, string>
  }
  const sources = Object.entries(browser).filter(([file]) => file.startsWith('./src/'))
  for (const [file, substitute] of sources) {
    await readFile(join(root, file.replace(/\.js$/, '.ts')))
    await readFile(join(root, substitute))
    expect(browser[file.replace('./src/', './dist/')]).toBe(
      substitute.replace('./src/', './dist/').replace(/\.ts$/, '.js'),
    )
  }
  expect(Object.keys(browser).length).toBe(2 * sources.length)
})

describe.skipIf(withoutBrowser)('a model in Chromium', () => {
  let browser: Browser
  let folder: string
  let files: readonly string[]
  const troubles: string[] = []

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gptvq-page-'))
    await writeTinyModel(folder)
    files = await readdir(folder)
    browser = await startBrowser()
  })
  afterAll(async () => {
    await browser?.close()
    await rm(folder, { recursive: true, force: true })
  })

  /** A page whose worker has the bundle; with the headers that isolate it, or without. */
  async function openPage(isolated: boolean): Promise<Page> {
    const { code } = await bundle(`import { modelInPage, waitingWorkers } from './support/model-in-page.js'
      const calls = { modelInPage, waitingWorkers }
      onmessage = ({ data: [name, ...values] }) =>
        calls[name](...values).then((value) => postMessage({ value }), (error) => postMessage({ error: String(error) }))`)
    const headers: Record<string, string> = isolated
      ? { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' }
      : {}
    const page = await browser.newPage()
    page.on('pageerror', (error) => troubles.push(String(error)))
    page.on('console', (message) => troubles.push(message.text()))
    await page.route('https://page.test/**', async (route) => {
      const { pathname } = new URL(route.request().url())
      if (pathname === '/') {
        const body = '<!doctype html><link rel="icon" href="data:,">'
        return route.fulfill({ contentType: 'text/html', body, headers })
      }
      if (pathname === '/worker.js')
        return route.fulfill({ contentType: 'text/javascript', body: code, headers })
      const bytes = await readFile(join(folder, pathname.slice('/model/'.length)))
      const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(route.request().headers().range ?? '') ?? []
      if (first === undefined) return route.fulfill({ body: bytes, headers })
      const part = bytes.subarray(Number(first), Number(last) + 1)
      const range = `bytes ${first}-${Number(first) + part.length - 1}/${bytes.length}`
      return route.fulfill({ status: 206, body: part, headers: { ...headers, 'Content-Range': range } })
    })
    await page.goto('https://page.test/')
    return page
  }

  const inWorker = <T>(page: Page, ...call: readonly unknown[]): Promise<T> =>
    page.evaluate(
      `new Promise((resolve, reject) => {
        const worker = new Worker('/worker.js', { type: 'module' })
        worker.onmessage = ({ data }) => 'value' in data ? resolve(data.value) : reject(new Error(data.error))
        worker.onerror = ({ message }) => reject(new Error(message))
        worker.postMessage(${JSON.stringify(call)})
      })`,
    )

  it.each([true, false])('writes, scores and quantizes as in Node; isolated: %s', async (isolated) => {
    const page = await openPage(isolated)
    const here = await modelInPage(folder)
    const there = await inWorker<ModelInPage>(page, 'modelInPage', 'https://page.test/model/', files)
    expect(there.tokens).toEqual(here.tokens)
    expect(there.perplexity / here.perplexity).toBeCloseTo(1, 5)
    expect(Object.keys(there.indices)).toEqual(Object.keys(here.indices))
    if (bestBuild() === 'relaxed') expect(there.indices).toEqual(here.indices)
    const cores = await page.evaluate<number>('navigator.hardwareConcurrency')
    expect(there.threads).toBe(isolated ? cores : 1)
    expect(troubles).toEqual([])
    await page.close()
  })

  it('runs the kernels on web workers where the page is isolated, and on none elsewhere', async () => {
    const [isolated, ordinary] = [await openPage(true), await openPage(false)]
    expect(await inWorker<number>(isolated, 'waitingWorkers')).toBe(3)
    expect(await inWorker<number>(ordinary, 'waitingWorkers')).toBe(0)
    expect(troubles).toEqual([])
  })
})
