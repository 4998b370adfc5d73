import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gguf } from '@huggingface/gguf'
import { exportGguf } from 'gptvq/export'
import { evaluateModel, inspectModel, quantizeModel } from 'gptvq/model'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openModel } from '../../src/pipeline/folders/open-model.js'
import { tinyText, writeTinyModel } from '../support/tiny-model.js'

let root: string
let plain: string

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'gptvq-export-'))
  plain = join(root, 'plain')
  await writeTinyModel(plain)
})

afterAll(() => rm(root, { recursive: true, force: true }))

const small = {
  calibration: { text: tinyText(512) },
  sequences: 4,
  groupSize: 512,
  columnsPerGroup: 32,
  kmeansIterations: 3,
  refinementRounds: 0,
} as const

async function quantized(name: string, options: object): Promise<string> {
  const output = join(root, name)
  await quantizeModel({ model: plain, output, ...options })
  return output
}

/** The largest distance of weights of `file` from those of `model`, as a share of the largest weight of their block. */
async function worstShare(file: string, model: string, name: string): Promise<number> {
  const [a, b] = [await openModel(file), await openModel(model)]
  try {
    const [found, wanted] = [await a.source.floats(name), await b.source.floats(name)]
    let worst = 0
    for (let start = 0; start < wanted.length; start += 32) {
      const block = wanted.subarray(start, start + 32)
      const most = block.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0)
      for (const [i, value] of block.entries()) {
        if (most > 0) worst = Math.max(worst, Math.abs(found[start + i] - value) / most)
      }
    }
    return worst
  } finally {
    await Promise.all([a.close(), b.close()])
  }
}

const projection = 'model.layers.0.self_attn.q_proj.weight'

describe('a quantized model', () => {
  it('with plain int8 codebooks is written with the same codes; scales are rounded to halves', async () => {
    const model = await quantized('vq', { ...small, bits: 2, scaleBlockSize: 32 })
    const output = join(root, 'vq.gguf')
    const { types } = await exportGguf({ model, output })
    // rows of down_proj have 48 weights, no whole blocks
    expect(types.map(({ type, tensors, sameCodes }) => [type, tensors, sameCodes])).toEqual([
      ['F32', 7, 0],
      ['Q8_0', 12, 12],
      ['F16', 2, 0],
    ])
    expect(await worstShare(output, model, projection)).toBeLessThan(2 ** -11)
  })

  it('whose blocks have no scales of their own is rounded to 8 bits, and the file says so', async () => {
    const model = await quantized('fine', { ...small, bits: 2, scaleBlockSize: 16 })
    const output = join(root, 'fine.gguf')
    const { types } = await exportGguf({ model, output })
    const q8 = types.find(({ type }) => type === 'Q8_0')
    expect(q8).toMatchObject({ tensors: 12, sameCodes: 0 })
    expect(q8?.addedError).toBeGreaterThan(0)
    const worst = await worstShare(output, model, projection)
    expect(worst).toBeLessThan(0.51 / 127)
  })

  it('with trellis codes, whose columns have factors of their own, is rounded to 8 bits too', async () => {
    const { kmeansIterations: _, groupSize: __, ...trellis } = small
    const model = await quantized('trellis', { ...trellis, bits: 2, scaleBlockSize: 32 })
    const output = join(root, 'trellis.gguf')
    const { types } = await exportGguf({ model, output })
    expect(types.find(({ type }) => type === 'Q8_0')).toMatchObject({ tensors: 12, sameCodes: 0 })
    expect(await worstShare(output, model, projection)).toBeLessThan(0.51 / 127)
  })

  it.each([
    [4, 'Q4_1'],
    [5, 'Q5_1'],
  ])('of scalars of %i bits is written as %s with the same codes', async (bits, type) => {
    const model = await quantized(`rtn${bits}`, { method: 'rtn', bits, groupSize: 32 })
    const output = join(root, `rtn${bits}.gguf`)
    const { types } = await exportGguf({ model, output })
    expect(types.find((one) => one.type === type)).toMatchObject({ tensors: 12, sameCodes: 12 })
    // the least value is rounded to a half, far below half a step
    expect(await worstShare(output, model, projection)).toBeLessThan(2 ** -10)
  })
})

describe('a plain model', () => {
  it('written as F32 is scored as the folder is, to the last bit', async () => {
    const output = join(root, 'plain-f32.gguf')
    await exportGguf({ model: plain, output, type: 'f32' })
    const text = { text: tinyText(600, 2) }
    const scores = await evaluateModel({ model: output, reference: plain, text })
    expect(scores.perplexity).toBe(scores.reference?.perplexity)
    expect(scores.klDivergence).toBe(0)
    const listed = await inspectModel(output)
    expect(listed.architecture).toBe('LlamaForCausalLM')
    expect(listed.weights.every(({ format }) => format === 'F32')).toBe(true)
  })

  it('loses more the fewer bits a type has, and tells how much', async () => {
    const errors: number[] = []
    for (const type of ['bf16', 'f16', 'q8_0', 'q5_0', 'q4_0'] as const) {
      const { types } = await exportGguf({ model: plain, output: join(root, 'p.gguf'), type, force: true })
      const used = types.find((one) => one.type === type.toUpperCase())
      errors.push(used?.addedError ?? Number.NaN)
      expect(await worstShare(join(root, 'p.gguf'), plain, projection)).toBeLessThan(0.13)
    }
    const [bf16, f16, q8, q5, q4] = errors
    expect(f16).toBeLessThan(bf16)
    expect(bf16).toBeLessThan(q8)
    expect(q8).toBeLessThan(q5)
    expect(q5).toBeLessThan(q4)
    expect(q4).toBeLessThan(0.12)
  })

  it('is read by another reader, with the sizes and the tokenizer that it has', async () => {
    const output = join(root, 'q4.gguf')
    await exportGguf({ model: plain, output, type: 'q4_0' })
    const { metadata, tensorInfos } = await gguf(output, { allowLocalFile: true })
    expect(metadata).toMatchObject({
      'general.architecture': 'llama',
      'llama.block_count': 2,
      'llama.attention.head_count_kv': 2,
      'tokenizer.ggml.model': 'gpt2',
      'tokenizer.ggml.pre': 'gpt-2',
      'tokenizer.ggml.bos_token_id': 256,
      'tokenizer.ggml.eos_token_id': 257,
    })
    expect(tensorInfos.map(({ name, dtype }) => `${name} ${dtype}`)).toContain('blk.1.attn_q.weight 2')
    // embedding and head have 8 bits
    expect(tensorInfos.map(({ name, dtype }) => `${name} ${dtype}`)).toContain('output.weight 8')
  })

  it('in a GGUF file is quantized like the folder that it stands for', async () => {
    const output = join(root, 'in.gguf')
    await exportGguf({ model: plain, output, type: 'f32' })
    const options = { ...small, bits: 2, scaleBlockSize: 'none' } as const
    await quantizeModel({ model: plain, output: join(root, 'of-folder'), ...options })
    await quantizeModel({ model: output, output: join(root, 'of-file'), ...options })
    const [a, b] = await Promise.all(
      ['of-folder', 'of-file'].map((name) => readFile(join(root, name, 'model.safetensors'))),
    )
    expect(a.equals(b)).toBe(true)
    expect(await readdir(join(root, 'of-file'))).toEqual([
      'README.md',
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ])
  })
})

describe('tokens that end an answer', () => {
  /** A copy of the plain model with control tokens of these texts at its last ids, and these settings. */
  async function withEnds(name: string, texts: readonly string[], settings: object, ends: readonly number[]) {
    const model = join(root, name)
    await writeTinyModel(model)
    const file = join(model, 'tokenizer.json')
    const tokenizer = JSON.parse(await readFile(file, 'utf8'))
    const first = 258 - texts.length
    const added = texts.map((content, i) => ({ id: first + i, content, special: true, normalized: false }))
    const vocab = Object.entries(tokenizer.model.vocab).filter(([, id]) => Number(id) < first)
    const changed = { ...tokenizer, added_tokens: added, model: { ...tokenizer.model } }
    changed.model.vocab = Object.fromEntries(vocab)
    await writeFile(file, JSON.stringify(changed))
    await writeFile(join(model, 'tokenizer_config.json'), JSON.stringify(settings))
    await writeFile(join(model, 'generation_config.json'), JSON.stringify({ eos_token_id: ends }))
    return model
  }

  const read = async (model: string) => {
    const output = `${model}.gguf`
    const { notes } = await exportGguf({ model, output, type: 'f32' })
    const { metadata } = await gguf(output, { allowLocalFile: true })
    const opened = await openModel(output)
    const ends = opened.config.eosTokenIds
    await opened.close()
    return { metadata, notes, ends }
  }

  it('of a Llama 3 are all kept, and the one of its tokenizer is that of a text', async () => {
    const texts = ['<|end_of_text|>', '<|eom_id|>', '<|eot_id|>']
    const settings = { eos_token: '<|eot_id|>' }
    const { metadata, notes, ends } = await read(await withEnds('llama3', texts, settings, [255, 256, 257]))
    expect(metadata).toMatchObject({ 'tokenizer.ggml.eos_token_id': 257, 'tokenizer.ggml.eom_token_id': 256 })
    expect(metadata).not.toHaveProperty('tokenizer.ggml.eot_token_id')
    expect(notes).toEqual([])
    expect([...ends].sort()).toEqual([255, 256, 257])
  })

  it('beyond the three that a file names are noted', async () => {
    const { notes, ends } = await read(await withEnds('many', [], {}, [5, 6, 7]))
    // config.json names 257 too
    expect(ends).toEqual([5, 6, 7])
    expect(notes).toEqual([expect.stringMatching(/three tokens that end an answer.*: 257 \(".*"\)/)])
  })
})

it('a model whose activations are rounded is written with a note that they are not in llama.cpp', async () => {
  const model = await quantized('rounded', { scheme: 'w8a8', method: 'rtn' })
  const { notes } = await exportGguf({ model, output: join(root, 'rounded.gguf') })
  expect(notes).toEqual(['its activations are rounded here, as config.json says, but not in llama.cpp'])
})

it('what is found odd about a model is noted as elsewhere', async () => {
  const model = join(root, 'odd')
  await writeTinyModel(model)
  await symlink('nowhere', join(model, 'added.json'))
  const { notes } = await exportGguf({ model, output: join(root, 'odd.gguf') })
  expect(notes).toEqual([expect.stringContaining('added.json')])
})

describe('a file is complete or absent', () => {
  it('a model of which config.json tells only a part is refused', async () => {
    const model = join(root, 'part')
    await writeTinyModel(model, { config: { num_hidden_layers: 1 } })
    await expect(exportGguf({ model, output: join(root, 'part.gguf') })).rejects.toThrow(
      /says that there are 1 blocks, but the weights hold another/,
    )
    await expect(stat(join(root, 'part.gguf'))).rejects.toThrow('ENOENT')
  })

  it('an existing file is kept unless told otherwise, and one of another kind always', async () => {
    const output = join(root, 'there.gguf')
    await writeFile(output, 'something else')
    await expect(exportGguf({ model: plain, output })).rejects.toThrow(/exists\. Choose another output/)
    await expect(exportGguf({ model: plain, output, force: true })).rejects.toThrow(
      /does not look like a GGUF file/,
    )
    expect(await readFile(output, 'utf8')).toBe('something else')
  })

  it('work that is stopped leaves nothing behind', async () => {
    const controller = new AbortController()
    const output = join(root, 'stopped', 'stopped.gguf')
    const onProgress = ({ done }: { done: number }) => done > 0.5 && controller.abort()
    const { signal } = controller
    await expect(exportGguf({ model: plain, output, onProgress, signal })).rejects.toMatchObject({
      code: 'ABORTED',
    })
    expect(await readdir(root)).not.toContain('stopped')
  })

  it('a model without a tokenizer is refused before anything is written', async () => {
    const model = join(root, 'no-tokenizer')
    await writeTinyModel(model)
    await rm(join(model, 'tokenizer.json'))
    await expect(exportGguf({ model, output: join(root, 'none.gguf') })).rejects.toThrow(
      /tokenizer\.json: no such file/,
    )
    await expect(stat(join(root, 'none.gguf'))).rejects.toThrow('ENOENT')
  })
})

describe('a GGUF file that cannot be read is refused by name', () => {
  it('cut short', async () => {
    const output = join(root, 'cut.gguf')
    const { bytes } = await exportGguf({ model: plain, output })
    await truncate(output, bytes - 1000)
    await expect(openModel(output)).rejects.toThrow(/needs bytes up to \d+, but the file has/)
  })

  it('of another format', async () => {
    const file = join(root, 'other.gguf')
    await writeFile(file, 'x'.repeat(100))
    await expect(openModel(file)).rejects.toThrow(/other\.gguf: is no sound GGUF file: .*magic/)
  })

  it('missing', async () => {
    await expect(openModel(join(root, 'missing.gguf'))).rejects.toThrow(/missing\.gguf.*no such file/)
  })
})

it('what is quantized from a GGUF file tells the hash of that file', async () => {
  const file = join(root, 'hashed.gguf')
  await exportGguf({ model: plain, output: file, type: 'f32' })
  const output = join(root, 'from-gguf')
  await quantizeModel({ model: file, output, method: 'rtn', bits: 4, groupSize: 32 })
  const { quantization_config: quantization } = JSON.parse(
    await readFile(join(output, 'config.json'), 'utf8'),
  )
  expect(quantization.run.weights).toBe(
    createHash('sha256')
      .update(await readFile(file))
      .digest('hex'),
  )
})
