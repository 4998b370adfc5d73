import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { randomGenerator } from '../../../src/common/random.js'
import { exportGguf } from '../../../src/export.js'
import { parseHeader } from '../../../src/gguf/parse-header.js'
import { evaluateModel, inspectModel, quantizeModel } from '../../../src/model.js'
import { tinyText, writeTinyModel } from '../tiny-model.js'
import { writeSome } from './folders.js'
import { type Fuzzer, tryCall } from './fuzzer.js'
import { changedBytes, pick } from './mutate.js'

/** GGUF files with other bytes, mostly in the header: counts, lengths, kinds, names and values. */
export const ggufFuzzer: Fuzzer = {
  name: 'gguf',
  async prepare(work) {
    const { folder } = await writeTinyModel(join(work, 'model'))
    const files: { bytes: Uint8Array; header: number }[] = []
    for (const type of ['f32', 'q8_0', 'q4_1'] as const) {
      const output = join(work, `${type}.gguf`)
      await exportGguf({ model: folder, output, type, preTokenizer: 'gpt-2' })
      const bytes = Uint8Array.from(await readFile(output))
      const readAt = async (position: number, length: number) => bytes.slice(position, position + length)
      const { tensorDataOffset } = await parseHeader({ path: output, size: bytes.length, readAt })
      files.push({ bytes, header: Number(tensorDataOffset) })
    }
    const model = join(work, 'mutant.gguf')
    const output = join(work, 'output')
    return async (seed) => {
      const random = randomGenerator(seed)
      const { bytes, header } = files[seed % files.length]
      const changed =
        random() < 0.5 ? changedWord(bytes, header, random) : changedBytes(bytes, header, random)
      await writeFile(model, changed)
      const text = { text: tinyText(64) }
      const calls: [string, () => Promise<unknown>][] = [
        ['inspect', () => inspectModel(model)],
        ['eval', () => evaluateModel({ model, text, context: 16, windows: 1, engine: 'wasm' })],
        ['quantize', () => quantizeModel({ model, output, method: 'rtn', force: true })],
        ['generate', () => writeSome(model)],
      ]
      const findings = []
      for (const [name, call] of calls) findings.push(...(await tryCall(`gguf, ${name}`, call)))
      await rm(output, { recursive: true, force: true })
      return findings
    }
  },
}

/** Another number of 32 or 64 bits somewhere among the names and values, rather than in the long lists of tokens. */
function changedWord(bytes: Uint8Array, header: number, random: () => number): Uint8Array {
  const changed = bytes.slice()
  const place = Math.floor((random() < 0.5 ? Math.min(header, 2000) : header) * random())
  const view = new DataView(changed.buffer)
  const numbers = [0, 1, 2, 7, 255, 2 ** 16, 2 ** 31, 2 ** 32 - 1]
  view.setUint32(place, pick(numbers, random), true)
  if (random() < 0.5) view.setUint32(place + 4, pick(numbers, random), true)
  return changed
}
