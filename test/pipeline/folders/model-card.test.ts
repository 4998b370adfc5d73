import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../../src/checkpoint/checkpoint.js'
import { exportOnnx } from '../../../src/export.js'
import { dequantizeModel, type QuantizationReport, quantizeModel } from '../../../src/model.js'
import { readCard, withMembers, withTags, writeCard } from '../../../src/pipeline/folders/card-matter.js'
import { distillModel, trainModel } from '../../../src/train.js'
import { cli, folderOfFile } from '../../cli/support.js'
import { tinyText, writeTinyModel } from '../../support/tiny-model.js'

const original = `---
license: mit
language:
- en
- de
tags: [small, "text"]
library_name: transformers
base_model: org/first
base_model_relation: finetune
model-index:
- name: little
  results:
  - task:
      type: text-generation
---

# Little model

It writes | letters.
`

let work: string
let model: string
let quantized: string
let report: QuantizationReport
let card: string

const cardOf = (folder: string) => readFile(join(folder, 'README.md'), 'utf8')

beforeAll(async () => {
  work = await folderOfFile()
  model = join(work, 'model')
  quantized = join(work, 'quantized')
  await writeTinyModel(model)
  await writeFile(join(model, 'README.md'), original)
  const text = join(work, 'text.txt')
  await writeFile(text, tinyText(300))
  const few = { sequences: 2, sequenceLength: 16, refinementRounds: 1 }
  report = await quantizeModel({ model, output: quantized, calibration: text, ...few, skip: '*.o_proj' })
  card = await cardOf(quantized)
})

describe('the card of a quantized folder', () => {
  it('says what was done, and the bits that the report counts from the bytes', () => {
    expect(card).toContain('| method | gptvq |')
    expect(card).toContain(`counted from the bytes | ${report.bitsPerValue.toFixed(3)} |`)
    expect(card).toContain(`whole model | ${report.wholeModel.bitsPerValue.toFixed(3)} |`)
    expect(card).toContain(report.wholeModel.after.toLocaleString('en'))
    const errors = report.layers.map(({ relativeError }) => relativeError!)
    const mean = errors.reduce((sum, error) => sum + error, 0) / errors.length
    expect(card).toContain(`on the calibration text | ${mean.toPrecision(3)} |`)
    for (const [name, value] of Object.entries(report.settings)) {
      const shown = typeof value === 'object' ? JSON.stringify(value) : String(value)
      expect(card).toContain(`| \`${name}\` | ${shown} |`)
    }
  })

  it('gives the command and the hashes of what it was made of', async () => {
    const { quantization_config } = JSON.parse(await readFile(join(quantized, 'config.json'), 'utf8'))
    expect(card).toContain('gptvq quantize MODEL --out DIR --method gptvq --calibration text.txt')
    expect(card).toContain('--sequence-length 16')
    expect(card).toContain(quantization_config.run.weights)
    expect(card).toContain(quantization_config.run.calibration.sha256)
    // paths of this machine are nobody's business
    expect(card).not.toContain(work)
  })

  it('keeps what the card of the model says, with licence and tags', () => {
    const { matter, text } = readCard(card)
    expect(matter.get('license')).toBe('license: mit')
    expect(matter.get('language')).toBe('language:\n- en\n- de')
    expect(matter.get('library_name')).toBe('library_name: "gptvq"')
    expect(matter.get('tags')).toBe('tags:\n- gptvq\n- small\n- "text"')
    expect(text.trimEnd().endsWith('# Little model\n\nIt writes | letters.')).toBe(true)
  })

  it('has neither the scores of the model, nor the relation to a base of which the model was tuned', async () => {
    const { matter } = readCard(card)
    expect(matter.has('model-index')).toBe(false)
    expect(matter.get('base_model')).toBe('base_model: org/first')
    expect(matter.has('base_model_relation')).toBe(false)
  })

  it('names the model as its base where the hub has it', async () => {
    const cached = join(work, 'models--org--little', 'snapshots', 'c0ffee')
    await cp(model, cached, { recursive: true })
    const output = join(work, 'of-the-hub')
    await quantizeModel({ model: cached, output, method: 'rtn' })
    const { matter, text } = readCard(await cardOf(output))
    expect(matter.get('base_model')).toBe('base_model: "org/little"')
    expect(matter.get('base_model_relation')).toBe('base_model_relation: "quantized"')
    expect(text).toContain('# little, quantized')
  })

  it('shows commands that work', async () => {
    const commands = Array.from(card.matchAll(/^npx gptvq (.*?) *#/gm), ([, line]) => line.split(' '))
    expect(commands.map(([name]) => name)).toEqual(['run', 'serve', 'export', 'export', 'dequantize'])
    for (const [i, args] of commands.entries()) {
      // it answers until it is stopped
      if (args[0] === 'serve') continue
      const places: Record<string, string> = { DIR: quantized, OTHER: `other-${i}`, 'model.gguf': 'a.gguf' }
      const own = args.map((part) =>
        part in places ? join(work, places[part]).replace(join(work, work), work) : part,
      )
      const more = args[0] === 'run' ? ['--prompt', 'a', '--max-tokens', '1'] : []
      const rule = args.includes('gguf') ? ['--pre-tokenizer', 'gpt-2'] : []
      const { code, stderr } = await cli([...own, ...more, ...rule])
      expect({ args, code, stderr: stderr.includes('gptvq:') }).toEqual({ args, code: 0, stderr: false })
    }
  })
})

describe('the card of what is made of a quantized folder', () => {
  it('is no longer that of a quantized one, and keeps the card of the model', async () => {
    const [plain, onnx] = [join(work, 'plain'), join(work, 'onnx')]
    await dequantizeModel({ model: quantized, output: plain })
    await exportOnnx({ model: quantized, output: onnx })
    for (const [folder, title] of [
      [plain, '# Plain weights of a quantized model'],
      [onnx, '# ONNX graph of a model'],
    ]) {
      const made = await cardOf(folder)
      expect(made).toContain(title)
      expect(made).toContain('(method `gptvq`)')
      expect(made).not.toMatch(
        /library_name: "gptvq"|\n- gptvq|base_model_relation|model-index|npx gptvq|bits per/,
      )
      expect(made).toContain('license: mit')
      expect(made.match(/# Little model/g)).toHaveLength(1)
    }
    const again = join(work, 'again')
    await quantizeModel({ model: plain, output: again, method: 'rtn' })
    const second = await cardOf(again)
    expect(second.match(/# Little model/g)).toHaveLength(1)
    expect(second.match(/<!-- gptvq/g)).toHaveLength(1)
  })

  it('of a student says that the weights are others', async () => {
    const output = join(work, 'student')
    const text = { text: tinyText(400) }
    await distillModel({ teacher: model, keepBlocks: [0], output, text, sequenceLength: 16, epochs: 1 })
    expect(await cardOf(output)).toMatch(/# A distilled model[\s\S]*# Little model/)
  })
})

it('the card says how many other tensors have new values, and whether the layers were trained', async () => {
  const text = { text: tinyText(400) }
  const folders = [join(work, 'plain-rtn'), join(work, 'equalized'), join(work, 'trained')]
  const rtn = { model, method: 'rtn', bits: 2 } as const
  await quantizeModel({ ...rtn, output: folders[0] })
  await quantizeModel({
    ...{ ...rtn, output: folders[1], equalization: 'smoothquant' },
    ...{ calibration: text, sequences: 2, sequenceLength: 16 },
  })
  const fast = { normRate: 8, learningRate: 0.05, patience: 9, batch: 2 } as const
  const { curve } = await trainModel({
    ...{ model, output: folders[2], method: 'qat', text, sequenceLength: 16, epochs: 2 },
    ...{ bits: 2, startMethod: 'rtn', ...fast },
  })
  expect(curve.kept).toBeGreaterThan(0)
  const before = await openCheckpoint(model)
  for (const folder of folders) {
    const after = await openCheckpoint(folder)
    let changed = 0
    for (const name of before.tensors.keys()) {
      const bytes = after.tensors.has(name) ? await after.readBytes(name) : await before.readBytes(name)
      if (Buffer.compare(bytes, await before.readBytes(name)) !== 0) changed++
    }
    await after.close()
    expect(changed > 0).toBe(folder !== folders[0])
    expect(await cardOf(folder)).toContain(
      `14 weight matrices of a model, quantized with gptvq${folder === folders[2] ? ', then trained (`qat`)' : ''}. ` +
        (changed === 0
          ? 'All other tensors are as they were.'
          : `Of the other tensors ${changed} have new values to go with them, the rest are as they were.`),
    )
  }
  await before.close()
  expect(await cardOf(folders[2])).toContain('| method | rtn, then trained: qat |')
})

it('a model without a card gets one, without front matter of others', async () => {
  const { folder } = await writeTinyModel(join(work, 'bare'))
  const output = join(work, 'bare-rtn')
  await quantizeModel({ model: folder, output, method: 'rtn' })
  expect(await cardOf(output)).toMatch(
    /^---\nlibrary_name: "gptvq"\ntags:\n- gptvq\n- rtn\n---\n\n# A quantized model\n/,
  )
})

describe('front matter', () => {
  const line = fc.stringMatching(/^[a-z]+: [ -~]{0,20}$/)
  it('comes back as it was, whatever is behind it', () => {
    fc.assert(
      fc.property(fc.array(line), fc.string(), (lines, text) => {
        const whole = ['---', ...lines, '---', text.replaceAll('\r', '')].join('\n')
        const { matter, text: behind } = readCard(whole)
        expect(behind).toBe(text.replaceAll('\r', ''))
        const names = new Set(lines.map((one) => one.split(':')[0]))
        expect(new Set(matter.keys())).toEqual(names)
        if (names.size === lines.length && lines.length > 0)
          expect(writeCard({ matter, text: behind })).toBe(whole)
      }),
    )
  })

  it('changes in the members named, and in no other', () => {
    const { matter } = readCard(original)
    const changed = withTags(
      withMembers(matter, { license: undefined, library_name: 'x' }),
      ['new'],
      ['small'],
    )
    expect([...changed.keys()]).toEqual([
      ...['language', 'tags', 'library_name', 'base_model', 'base_model_relation', 'model-index'],
    ])
    expect(changed.get('tags')).toBe('tags:\n- new\n- "text"')
  })
})
