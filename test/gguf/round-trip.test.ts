import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exportGguf } from '../../src/export/export-gguf.js'
import { architectureOfFamily } from '../../src/gguf/architectures.js'
import { requireRepresentable } from '../../src/gguf/blocks/representable.js'
import { ggufTensors } from '../../src/gguf/tensor-names.js'
import type { DecoderDescription } from '../../src/model/decoder/description.js'
import { describeDecoder } from '../../src/model/families/index.js'
import { openModel } from '../../src/pipeline/folders/open-model.js'
import { fixtureFolder, fixtureNames, openFixture } from '../model/families/fixture.js'
import { copyFixture } from './fixture-folder.js'

/** Fixtures that llama.cpp has no way to say, and what of them. */
const refused: Readonly<Record<string, RegExp>> = {
  'gemma2-no-caps': /no soft cap/,
  'gpt_neox-sequential': /block 0 has no biases/,
  'qwen3-bias-window': /block 0 has biases/,
  'llama-dynamic': /scaled dynamically/,
  'llama-yarn-mscale': /truncate false/,
  'olmo3-yarn': /block 1 sees all/,
  'olmoe-clip-norm': /are clipped/,
  'qwen2_moe-mlp-only': /block 1 has no experts/,
  'qwen2_moe-norm-step': /block 0 has no experts/,
  'qwen3_moe-mlp-only': /block 0 has no experts/,
  'smollm3-bias-window': /block 0 has no rotary positions/,
}

/** What llama.cpp computes of a model: without windows where it has none, and GELU by its approximation. */
function asInLlamaCpp(decoder: DecoderDescription, noted: boolean): object {
  const { bosTokenId: _, eosTokenIds: __, ...rest } = decoder
  const family = decoder.family === 'mistral' ? 'llama' : decoder.family
  const blocks = decoder.blocks.map((block) => {
    const { window, ...attention } = block.attention
    return { ...block, attention: noted ? attention : { window, ...attention } }
  })
  return JSON.parse(JSON.stringify({ ...rest, family, blocks }), (_key, value) => {
    if (value === 'gelu-tanh' && family === 'gpt_neox') return 'gelu'
    return typeof value === 'number' ? Math.fround(value) : value
  })
}

let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-gguf-'))
})

afterAll(() => rm(folder, { recursive: true, force: true }))

describe.each(fixtureNames.filter((name) => !(name in refused)))('%s', (name) => {
  it('written as F32 and read back is the same decoder with the same weights', async () => {
    const model = await copyFixture(name, join(folder, name))
    const output = join(folder, `${name}.gguf`)
    const { notes } = await exportGguf({ model, output, type: 'f32' })
    const fixture = await openFixture(name)
    const read = await openModel(output)
    try {
      const names = [...read.checkpoint.tensors.keys()]
      expect(names.length).toBeGreaterThan(0)
      for (const tensor of names) {
        expect(read.source.shape(tensor)).toEqual(fixture.source.shape(tensor))
        const wanted = await fixture.source.floats(tensor)
        const found = await read.source.floats(tensor)
        let worst = 0
        for (let i = 0; i < wanted.length; i++) worst = Math.max(worst, Math.abs(found[i] - wanted[i]))
        // norms stored as distances from 1 pass through their sum with 1
        expect({ tensor, worst: worst < 1.3e-7 }).toEqual({ tensor, worst: true })
      }
      const noted = notes.some((note) => note.includes('window'))
      const config = JSON.parse(await readFile(join(model, 'config.json'), 'utf8'))
      expect(asInLlamaCpp(read.config, noted)).toEqual(
        asInLlamaCpp(describeDecoder(config, 'config.json'), noted),
      )
    } finally {
      await read.close()
    }
  })
})

describe.each(Object.entries(refused))('%s', (name, message) => {
  it('is refused, with what of it a GGUF file cannot say', async () => {
    const model = await copyFixture(name, join(folder, name))
    await expect(exportGguf({ model, output: join(folder, `${name}.gguf`) })).rejects.toThrow(message)
  })
})

/** What of a fixture's family llama.cpp does not read, by what is changed in its configuration. */
const unread: readonly (readonly [fixture: string, change: object, message: RegExp])[] = [
  ['gemma-mqa', { tie_word_embeddings: false }, /output projection is not the embedding/],
  ['phi3-window', { head_dim: 12 }, /4 heads of 12 values are not as wide as the hidden states of 32/],
  ['olmo2-gqa', { head_dim: 12 }, /4 heads of 12 values/],
  [
    'qwen2-tied',
    {
      rope_parameters: {
        rope_type: 'llama3',
        rope_theta: 1e4,
        factor: 8,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: 16,
      },
    },
    /rotary positions are scaled as llama3/,
  ],
  ['smollm3-nope', { mlp_bias: true, no_rope_layers: [1, 1] }, /block 0 has biases of its feed-forward part/],
  [
    'olmo3-window',
    {
      layer_types: ['sliding_attention', 'sliding_attention', 'sliding_attention', 'full_attention'],
      num_hidden_layers: 4,
      rope_parameters: {
        full_attention: { rope_type: 'default', rope_theta: 5e5 },
        sliding_attention: { rope_type: 'default', rope_theta: 1e4 },
      },
    },
    /block 0 sees a window and has rotary positions of another base/,
  ],
  [
    'olmo3-window',
    {
      layer_types: ['sliding_attention', 'sliding_attention'],
      rope_parameters: {
        full_attention: { rope_type: 'default', rope_theta: 5e5 },
        sliding_attention: { rope_type: 'linear', rope_theta: 5e5, factor: 2 },
      },
    },
    /block 0 sees a window and scales its rotary positions/,
  ],
]

describe('what llama.cpp does not read of a family is refused', () => {
  it.each(unread)('%s with %j', async (name, change, message) => {
    const config = JSON.parse(await readFile(join(fixtureFolder, name, 'config.json'), 'utf8'))
    const decoder = describeDecoder({ ...config, ...change }, 'config.json')
    expect(() => requireRepresentable(decoder, 'model')).toThrow(message)
  })
})

it.each(['olmo2-gqa', 'stablelm-plain', 'gpt_neox-parallel', 'qwen2_moe-norm-step', 'olmoe-plain'])(
  '%s with a tied head is written with one, which llama.cpp asks for, and read without one too',
  async (name) => {
    const config = JSON.parse(await readFile(join(fixtureFolder, name, 'config.json'), 'utf8'))
    const decoder = describeDecoder({ ...config, tie_word_embeddings: true }, 'config.json')
    const architecture = architectureOfFamily(decoder.family)!
    const heads = (ownHead: boolean) =>
      ggufTensors(decoder, { ...architecture, ownHead }).filter((one) => one.name === 'output.weight')
    expect(architecture.ownHead).toBe(true)
    expect(heads(true).map(({ sources }) => sources)).toEqual([[decoder.embedding.tensor]])
    expect(heads(false)).toEqual([])
  },
)

it('factors of longrope are noted to be picked otherwise', async () => {
  const config = JSON.parse(await readFile(join(fixtureFolder, 'phi3-longrope-long', 'config.json'), 'utf8'))
  const { notes } = requireRepresentable(describeDecoder(config, 'config.json'), 'model')
  expect(notes).toContainEqual(
    expect.stringMatching(/long factors where its context \(-c\) is beyond \d+ tokens/),
  )
})
