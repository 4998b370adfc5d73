import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AbortedError } from '../../../src/common/errors.js'
import { exportGguf } from '../../../src/export/export-gguf.js'
import {
  type ExportOnnxOptions,
  exportOnnx,
  exportOnnxInFiles,
} from '../../../src/export/onnx/export-onnx.js'
import { quantizeModel } from '../../../src/pipeline/quantize/quantize-model.js'
import { worstDifference } from '../../model/families/fixture.js'
import { tinyText, writeTinyModel } from '../../support/tiny-model.js'
import { onnxLogits, openOnnx, worstShareOf } from './run-onnx.js'

let root: string
let plain: string

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'gptvq-onnx-'))
  plain = join(root, 'plain')
  await writeTinyModel(plain)
})

afterAll(() => rm(root, { recursive: true, force: true }))

const tokens = Int32Array.from({ length: 24 }, (_, i) => (i * 37 + 11) % 258)

const quick = { calibration: { text: tinyText(512) }, sequences: 4, refinementRounds: 0 } as const
const vectors = {
  ...quick,
  groupSize: 512,
  columnsPerGroup: 32,
  kmeansIterations: 3,
  trellisBits: 0,
} as const

/** Ways to quantize, and the forms to write each in. */
const methods: Record<string, [options: object, forms: readonly ExportOnnxOptions['weights'][]]> = {
  'trellis codes': [{ ...quick, bits: 2 }, ['packed', 'dense32']],
  'plain codebooks and scales': [{ ...vectors, bits: 2, scaleBlockSize: 16 }, ['packed']],
  'reordered columns': [{ ...vectors, bits: 2, columnOrder: 'activation' }, ['packed']],
  'scalars of 4 bits': [{ method: 'rtn', bits: 4, groupSize: 16 }, ['packed', 'nbits']],
  'vectors, embedding and head too': [
    { ...quick, bits: 2, embeddingBits: 3, embeddingMethod: 'gptvq', headBits: 2, headMethod: 'gptvq' },
    ['packed', 'nbits'],
  ],
  'scalars, embedding and head too': [
    { method: 'rtn', bits: 3, groupSize: 32, embeddingBits: 8, headBits: 4 },
    ['packed', 'nbits'],
  ],
}

describe('a quantized model', () => {
  it.each(Object.entries(methods))(
    'with %s gives the logits that it gives here',
    async (name, [options, forms]) => {
      const model = join(root, name)
      await quantizeModel({ model: plain, output: model, ...options })
      for (const weights of forms) {
        const output = join(root, `${name}, ${weights}`)
        const { notes } = await exportOnnx({ model, output, weights })
        expect(notes).toEqual([])
        expect(await worstShareOf(tokens, output, model)).toBeLessThan(1e-5)
      }
    },
  )

  it('with tied embeddings has the table once', async () => {
    const tied = join(root, 'tied')
    await writeTinyModel(tied, {
      config: { tie_word_embeddings: true },
      tensors: (all) => all.delete('lm_head.weight'),
    })
    const model = join(root, 'tied rtn')
    await quantizeModel({
      model: tied,
      output: model,
      method: 'rtn',
      bits: 4,
      groupSize: 16,
      embeddingBits: 8,
    })
    const [once, twice] = [join(root, 'tied onnx'), join(root, 'tied dense')]
    const packed = await exportOnnx({ model, output: once })
    expect(await worstShareOf(tokens, once, model)).toBeLessThan(1e-5)
    const dense = await exportOnnx({ model, output: twice, weights: 'dense32' })
    expect(await worstShareOf(tokens, twice, model)).toBeLessThan(1e-5)
    expect(packed.modelBytes).toBeLessThan(dense.modelBytes)
  })

  it('is as small as its folder, less what the graph takes', async () => {
    const [model, output] = [join(root, 'trellis codes'), join(root, 'trellis codes, packed')]
    const weights = (await stat(join(model, 'model.safetensors'))).size
    const whole = (await stat(join(output, 'onnx', 'model.onnx'))).size
    const { nodes } = await exportOnnx({ model, output, force: true })
    // an operation takes about a hundred bytes; the constant codebook, in the library there, 8 kB
    expect(whole).toBeLessThan(weights + 150 * nodes + 40_000)
  })
})

describe('a plain model', () => {
  it('gives its own logits, and nearly its own with weights of 16 bits', async () => {
    for (const [weights, least, most] of [
      ['packed', 0, 1e-5],
      ['dense32', 0, 1e-5],
      ['dense16', 1e-6, 3e-3],
    ] as const) {
      const output = join(root, weights)
      await exportOnnx({ model: plain, output, weights })
      const share = await worstShareOf(tokens, output, plain)
      expect(share).toBeLessThan(most)
      expect(share).toBeGreaterThanOrEqual(least)
    }
  })

  it('whose weights lie in a file of their own gives the same, and says so to transformers.js', async () => {
    const output = join(root, 'external')
    const { files, modelBytes } = await exportOnnx({ model: plain, output, inlineBytes: 0 })
    expect(files).toContain('onnx/model.onnx_data')
    expect((await stat(join(output, 'onnx', 'model.onnx_data'))).size).toBeGreaterThan(modelBytes / 2)
    expect(await worstShareOf(tokens, output, plain)).toBeLessThan(1e-5)
    const config = JSON.parse(await readFile(join(output, 'config.json'), 'utf8'))
    expect(config['transformers.js_config']).toEqual({ dtype: 'fp32', use_external_data_format: 1 })
  })

  it('whose weights lie in several files gives the same, and says to transformers.js how many', async () => {
    const output = join(root, 'many files')
    // embedding and head have 33024 bytes each, all layers of a block 36864 bytes
    const { files, notes } = await exportOnnxInFiles({ model: plain, output, inlineBytes: 0 }, 60_000)
    const parts = files.filter((name) => name.startsWith('onnx/model.onnx_data'))
    expect(parts).toEqual(['onnx/model.onnx_data', 'onnx/model.onnx_data_1', 'onnx/model.onnx_data_2'])
    for (const name of parts) expect((await stat(join(output, name))).size).toBeLessThanOrEqual(60_000)
    expect(notes).toEqual([])
    expect(await worstShareOf(tokens, output, plain)).toBeLessThan(1e-5)
    const config = JSON.parse(await readFile(join(output, 'config.json'), 'utf8'))
    expect(config['transformers.js_config']).toEqual({ dtype: 'fp32', use_external_data_format: 3 })
  })

  it('with a weight that is larger than a file may be has it in one of its own, and a note', async () => {
    const output = join(root, 'large weight')
    const { notes } = await exportOnnxInFiles({ model: plain, output, inlineBytes: 0 }, 20_000)
    expect(notes).toHaveLength(2)
    expect(notes[0]).toMatch(/^onnx\/model\.onnx_data\S* has 33024 bytes, .* larger than 20000: browsers/)
    expect(await worstShareOf(tokens, output, plain)).toBeLessThan(1e-5)
  })

  it('pads sequences on the left without a trace in their logits', async () => {
    const session = await openOnnx(join(root, 'dense32'))
    try {
      const alone = await onnxLogits(session, tokens, 2, [12])
      const padded = await onnxLogits(session, tokens, 2, [12, 3], [3, 0])
      const first = alone.length / 2
      expect(worstDifference(padded.subarray(0, first), alone.subarray(0, first))).toBeLessThan(1e-5)
    } finally {
      await session.release()
    }
  })

  it('comes with configuration, tokenizer and settings, and without what was quantized', async () => {
    const output = join(root, 'scalars of 4 bits, packed')
    const names = await readdir(output)
    expect(names.sort()).toEqual([
      'README.md',
      'config.json',
      'generation_config.json',
      'onnx',
      'tokenizer.json',
      'tokenizer_config.json',
    ])
    const config = JSON.parse(await readFile(join(output, 'config.json'), 'utf8'))
    expect(config).not.toHaveProperty('quantization_config')
    expect(config).toMatchObject({ model_type: 'llama', 'transformers.js_config': { dtype: 'fp32' } })
    const generation = JSON.parse(await readFile(join(output, 'generation_config.json'), 'utf8'))
    expect(generation).toEqual({ bos_token_id: 256, eos_token_id: 257 })
  })

  it('in a GGUF file gives the logits of the folder that the file was made of, with its tokenizer', async () => {
    const [file, output] = [join(root, 'plain.gguf'), join(root, 'of gguf')]
    await exportGguf({ model: plain, output: file, type: 'f32' })
    const { files } = await exportOnnx({ model: file, output })
    expect(files).toContain('tokenizer.json')
    expect(await worstShareOf(tokens, output, plain)).toBeLessThan(1e-5)
  })

  it('gives the same bytes each time', async () => {
    const outputs = [join(root, 'first'), join(root, 'second')]
    const files = []
    for (const output of outputs) {
      await exportOnnx({ model: plain, output })
      files.push(await readFile(join(output, 'onnx', 'model.onnx')))
    }
    expect(files[0].equals(files[1])).toBe(true)
  })
})

describe('what goes wrong', () => {
  it('leaves nothing behind when stopped, and says so', async () => {
    const controller = new AbortController()
    const output = join(root, 'stopped')
    const onProgress = ({ done }: { done: number }) => done > 0.4 && controller.abort()
    const work = exportOnnx({ model: plain, output, onProgress, signal: controller.signal })
    await expect(work).rejects.toThrow(AbortedError)
    await expect(work).rejects.toThrow(/nothing was written/)
    expect((await readdir(root)).filter((name) => name.includes('stopped'))).toEqual([])
  })

  it('is refused by name: places that are taken, the model itself, options that there are not', async () => {
    await expect(exportOnnx({ model: plain, output: join(root, 'first') })).rejects.toThrow(/--force/)
    await expect(exportOnnx({ model: plain, output: plain, force: true })).rejects.toThrow(/output/)
    const odd = { model: plain, output: join(root, 'odd') }
    await expect(exportOnnx({ ...odd, weights: 'q4' as never })).rejects.toThrow(/weights: expected one of/)
    await expect(exportOnnx({ ...odd, inlineBytes: 2 ** 31 })).rejects.toThrow(/inlineBytes/)
    await expect(exportOnnx({ ...odd, opset: 7 } as never)).rejects.toThrow(/opset/)
  })

  it('is the float16 that a weight does not fit', async () => {
    const model = join(root, 'large')
    await writeTinyModel(model, {
      tensors: (all) => all.get('lm_head.weight')!.values.fill(70000, 0, 1),
    })
    const work = exportOnnx({ model, output: join(root, 'large half'), weights: 'dense16' })
    await expect(work).rejects.toThrow(/lm_head.weight: value 70000.*dense32/)
  })
})
