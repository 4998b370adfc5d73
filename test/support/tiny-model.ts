import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { randomGenerator, randomNormal } from '../../src/common/random.js'

/** A float32 tensor of the model, row-major. */
export interface TinyTensor {
  shape: number[]
  values: Float32Array
}

export interface TinyModelOverrides {
  /** Fields to set in `config.json`; undefined removes one. The tensors keep the shapes of the sound model. */
  config?: Record<string, unknown>
  /** Changes the tensors before they are written. */
  tensors?: (tensors: Map<string, TinyTensor>) => void
  /** Ids in the tokenizer, default all 258. */
  vocabSize?: number
  /** Seed of the weights, default 1. */
  seed?: number
}

/** `config.json` of the model: 2 blocks, hidden size 32, context 64, one token per byte of text. */
export const tinyConfig = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  vocab_size: 258,
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  hidden_act: 'silu',
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: false,
  bos_token_id: 256,
  eos_token_id: 257,
  torch_dtype: 'float32',
}

/**
 * Writes a Llama of random weights that runs in milliseconds: `config.json`, `model.safetensors` (F32) and a
 * `tokenizer.json` with one token per byte. The writer shares nothing with the library's own.
 *
 * @param folder created when it is not there
 */
export async function writeTinyModel(
  folder: string,
  overrides: TinyModelOverrides = {},
): Promise<{ folder: string; tensors: Map<string, TinyTensor> }> {
  const tensors = tinyTensors(overrides.seed ?? 1)
  overrides.tensors?.(tensors)
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...tinyConfig, ...overrides.config }))
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(byteTokenizer(overrides.vocabSize ?? 258)))
  await writeFile(join(folder, 'model.safetensors'), safetensorsFile(tensors))
  return { folder, tensors }
}

/** Text of `length` bytes, as many tokens of the tiny model. */
export function tinyText(length: number, seed = 1): string {
  const random = randomGenerator(seed)
  const letters = 'eeetaoinshr dlu\n'
  return Array.from({ length }, () => letters[Math.floor(random() * letters.length)]).join('')
}

/** Makes one feature in front of the first `down_proj` about `factor` squared times as large, as some trained models have. */
export function makeMassive(tensors: Map<string, TinyTensor>, factor: number): void {
  for (const kind of ['gate_proj', 'up_proj']) {
    const { values, shape } = tensors.get(`model.layers.0.mlp.${kind}.weight`)!
    for (let j = 0; j < shape[1]; j++) values[5 * shape[1] + j] *= factor
  }
}

function tinyTensors(seed: number): Map<string, TinyTensor> {
  const { hidden_size: hidden, intermediate_size: inner, vocab_size: vocab } = tinyConfig
  const random = randomGenerator(seed)
  const tensors = new Map<string, TinyTensor>()
  const add = (name: string, shape: number[], mean: number, deviation: number) => {
    const count = shape.reduce((product, size) => product * size)
    const values = Float32Array.from({ length: count }, () => mean + deviation * randomNormal(random))
    tensors.set(name, { shape, values })
  }
  const addLinear = (name: string, rows: number, cols: number) =>
    add(`${name}.weight`, [rows, cols], 0, cols ** -0.5)
  const keys = tinyConfig.num_key_value_heads * tinyConfig.head_dim
  add('model.embed_tokens.weight', [vocab, hidden], 0, 1)
  for (let layer = 0; layer < tinyConfig.num_hidden_layers; layer++) {
    const block = `model.layers.${layer}`
    add(`${block}.input_layernorm.weight`, [hidden], 1, 0.1)
    addLinear(`${block}.self_attn.q_proj`, hidden, hidden)
    addLinear(`${block}.self_attn.k_proj`, keys, hidden)
    addLinear(`${block}.self_attn.v_proj`, keys, hidden)
    addLinear(`${block}.self_attn.o_proj`, hidden, hidden)
    add(`${block}.post_attention_layernorm.weight`, [hidden], 1, 0.1)
    addLinear(`${block}.mlp.gate_proj`, inner, hidden)
    addLinear(`${block}.mlp.up_proj`, inner, hidden)
    addLinear(`${block}.mlp.down_proj`, hidden, inner)
  }
  add('model.norm.weight', [hidden], 1, 0.1)
  addLinear('lm_head', vocab, hidden)
  return tensors
}

function safetensorsFile(tensors: ReadonlyMap<string, TinyTensor>): Uint8Array {
  const header: Record<string, unknown> = {}
  const parts: Uint8Array[] = []
  let offset = 0
  for (const [name, { shape, values }] of tensors) {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + bytes.length] }
    parts.push(bytes)
    offset += bytes.length
  }
  const json = Buffer.from(JSON.stringify(header))
  const text = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, ' ')])
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  return Buffer.concat([length, text, ...parts])
}

/** A byte-level BPE without merges: the 256 bytes, BOS, EOS, and further learned tokens up to `vocabSize`. */
function byteTokenizer(vocabSize: number): object {
  const vocab: Record<string, number> = {}
  for (const [byte, symbol] of byteSymbols().entries()) vocab[symbol] = byte
  vocab['<s>'] = 256
  vocab['</s>'] = 257
  for (let id = 258; id < vocabSize; id++) vocab[`more${id}`] = id
  const added = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }
  return {
    version: '1.0',
    added_tokens: [
      { id: 256, content: '<s>', ...added },
      { id: 257, content: '</s>', ...added },
    ],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    model: { type: 'BPE', unk_token: null, fuse_unk: false, byte_fallback: false, vocab, merges: [] },
  }
}

/** The printable character that byte-level tokenizers write for each byte. */
function byteSymbols(): string[] {
  let next = 256
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173)
    return String.fromCharCode(printable ? byte : next++)
  })
}
