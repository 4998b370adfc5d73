import { cp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { randomGenerator } from '../../../src/common/random.js'
import { exportGguf, exportOnnx } from '../../../src/export.js'
import { openGenerator } from '../../../src/generate.js'
import {
  dequantizeModel,
  evaluateModel,
  inspectModel,
  quantizeModel,
  quantizeTensors,
  reportData,
  writeReport,
} from '../../../src/model.js'
import { tinyText, writeTinyModel } from '../tiny-model.js'
import { type Fuzzer, tryCall } from './fuzzer.js'
import { changedBytes, changedJson, pick } from './mutate.js'

/** Folders of which one file is damaged: a plain model, quantized ones of every format of layer, one of shards. */
export const folderFuzzer: Fuzzer = {
  name: 'folders',
  async prepare(work) {
    const folders = await soundFolders(work)
    const model = join(work, 'mutant')
    const output = join(work, 'output')
    return async (seed) => {
      const random = randomGenerator(seed)
      const folder = folders[seed % folders.length]
      const files = (await readdir(folder)).sort()
      const file = pick(files, random)
      await rm(model, { recursive: true, force: true })
      await cp(folder, model, { recursive: true })
      const bytes = await readFile(join(folder, file))
      await writeFile(join(model, file), changedFile(file, bytes, random))
      const calls = callsOn(model, output)
      // the first three read most; of the others one each, for the time
      const further = calls.slice(3)
      const findings = []
      for (const [name, call] of [...calls.slice(0, 3), further[seed % further.length]]) {
        findings.push(...(await tryCall(`${folder.slice(work.length + 1)}/${file}, ${name}`, call)))
      }
      await rm(output, { recursive: true, force: true })
      return findings
    }
  },
}

const template =
  "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}{% endfor %}"

async function soundFolders(work: string): Promise<string[]> {
  const { folder: model } = await writeTinyModel(join(work, 'plain'))
  await writeFile(
    join(model, 'generation_config.json'),
    '{"temperature":0.7,"top_k":40,"eos_token_id":[257]}',
  )
  const tokenizer = { chat_template: template, bos_token: '<s>', eos_token: { content: '</s>' } }
  await writeFile(join(model, 'tokenizer_config.json'), JSON.stringify(tokenizer))
  const calibrated = { model, calibration: { text: tinyText(300) }, sequences: 4, refinementRounds: 0 }
  const output = (name: string) => join(work, name)
  await quantizeModel({ model, output: output('rtn'), method: 'rtn', embeddingBits: 8 })
  await quantizeModel({
    ...{ ...calibrated, output: output('vq') },
    ...{ kmeansIterations: 2, restarts: 1, columnOrder: 'activation' },
  })
  await quantizeModel({ ...calibrated, output: output('trellis'), trellisBits: 4 })
  await quantizeModel({
    ...{ model, output: output('shards'), method: 'rtn', maxShardBytes: 20_000 },
    ...{ calibration: { text: tinyText(300) }, sequences: 2, sequenceLength: 16 },
    ...{ activationBits: 8, activationRange: 'minmax' },
  })
  return ['plain', 'rtn', 'vq', 'trellis', 'shards'].map(output)
}

function callsOn(model: string, output: string): [string, () => Promise<unknown>][] {
  const text = { text: tinyText(64) }
  return [
    ['inspect', () => inspectModel(model)],
    ['dequantize', () => dequantizeModel({ model, output, force: true })],
    ['eval', () => evaluateModel({ model, text, context: 16, windows: 1, engine: 'wasm' })],
    ['quantize', () => quantizeModel({ model, output, method: 'rtn', force: true })],
    ['quantize-tensors', () => quantizeTensors({ model, output, method: 'rtn', force: true })],
    ['report', () => reportData({ model })],
    ['report page', () => writeReport({ model, output: `${output}.html`, force: true })],
    ['gguf', () => exportGguf({ model, output: `${output}.gguf`, force: true })],
    ['onnx', () => exportOnnx({ model, output, force: true })],
    ['generate', () => writeSome(model)],
  ]
}

/** Loads a model, and lets it write a few tokens, after a chat where it has a template. */
export async function writeSome(model: string): Promise<void> {
  const generator = await openGenerator({ model, context: 32 })
  try {
    const prompt = generator.hasChatTemplate
      ? { messages: [{ role: 'user', content: 'a' }] as const }
      : { prompt: 'a' }
    for await (const _ of generator.generate({ ...prompt, maxTokens: 2, seed: 1 }));
  } finally {
    await generator.close()
  }
}

function changedFile(file: string, bytes: Buffer, random: () => number): Uint8Array {
  if (file.endsWith('.json')) return changedJson(bytes, random)
  return changedBytes(bytes, 8 + Number(bytes.readBigUInt64LE(0)), random)
}
