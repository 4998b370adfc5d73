import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fixtureFolder } from '../model/families/fixture.js'

/** Fields of fixtures that llama.cpp has no way to say, as its own models have them. */
const changes: Readonly<Record<string, Record<string, unknown>>> = {
  'gemma2-caps': { query_pre_attn_scalar: 12 },
  'gemma2-no-caps': { query_pre_attn_scalar: 12 },
  'gemma3-layer-types': {
    query_pre_attn_scalar: 12,
    layer_types: ['sliding_attention', 'sliding_attention'],
  },
  'gemma3-linear': { query_pre_attn_scalar: 12, layer_types: ['sliding_attention', 'sliding_attention'] },
  'olmo3-window': { layer_types: ['sliding_attention', 'sliding_attention'] },
  'smollm3-nope': { no_rope_layers: [1, 1] },
}

/** Copies a fixture, which has no tokenizer, and gives it one of a token per id: byte-level, or made of SentencePiece. */
export async function copyFixture(name: string, folder: string): Promise<string> {
  await cp(join(fixtureFolder, name), folder, { recursive: true })
  const config = { ...JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')), ...changes[name] }
  await writeFile(join(folder, 'config.json'), JSON.stringify(config))
  const size: number = config.vocab_size
  // llama.cpp looks for these tokens in a Phi 3
  const names = ['<unk>', '<s>', '</s>', '<|endoftext|>']
  const vocab = Object.fromEntries(Array.from({ length: size }, (_, id) => [names[id] ?? `t${id}`, id]))
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true }
  const definition = {
    version: '1.0',
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: { type: 'BPE', unk_token: null, fuse_unk: false, byte_fallback: false, vocab, merges: [] },
  }
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(definition))
  return folder
}
