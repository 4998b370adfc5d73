import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exportGguf } from '../../src/export/export-gguf.js'
import { quantizeModel } from '../../src/pipeline/quantize/quantize-model.js'
import { cli } from '../cli/support.js'
import { tinyText, writeTinyModel } from '../support/tiny-model.js'

const pages = ['transformers-js', 'onnxruntime', 'llama-cpp', 'python']
let root: string

/** What the pages take for granted: models, files and texts by the names that they have there. */
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'gptvq-pages-'))
  const at = (name: string) => join(root, name)
  await writeTinyModel(at('path/to/model'))
  await exportGguf({ model: at('path/to/model'), output: at('model.Q8_0.gguf'), type: 'q8_0' })
  await copyFile(at('model.Q8_0.gguf'), at('model.Q4_K_M.gguf'))
  for (const name of ['text.txt', 'held-out.txt']) await writeFile(at(name), tinyText(600))
})

afterAll(() => rm(root, { recursive: true, force: true }))

/** The calls of `gptvq` in the blocks of a page, in order. */
async function callsOf(page: string): Promise<string[]> {
  const text = await readFile(fileURLToPath(new URL(`../../docs/${page}.md`, import.meta.url)), 'utf8')
  const blocks = [...text.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, block]) => block.split('\n'))
  return blocks.filter((line) => line.startsWith('gptvq '))
}

describe.each(pages)('the page on %s', (page) => {
  it('has commands that run as they stand', async () => {
    const calls = await callsOf(page)
    expect(calls.length).toBeGreaterThan(0)
    for (const call of calls) {
      const args = call.split(' ').slice(1)
      const output = args[args.indexOf('--out') + 1]
      if (args.includes('--out')) await rm(join(root, output), { recursive: true, force: true })
      const isFile = (arg: string) => /^(path|models)\/|\.(gguf|txt)$/.test(arg)
      if (args.includes('path/to/quantized') && output !== 'path/to/quantized') await quantized()
      const { code, stderr } = await cli(args.map((arg) => (isFile(arg) ? join(root, arg) : arg)))
      expect({ call, code, stderr: code === 0 ? '' : stderr }).toEqual({ call, code: 0, stderr: '' })
    }
  })
})

async function quantized(): Promise<void> {
  const [model, output] = [join(root, 'path/to/model'), join(root, 'path/to/quantized')]
  const cheap = { calibration: { text: tinyText(256) }, sequences: 2, refinementRounds: 0 }
  await quantizeModel({ model, output, force: true, ...cheap })
}
