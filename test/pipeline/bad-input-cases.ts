import { readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  CheckpointError,
  type GptvqError,
  NumericError,
  OptionError,
  TextError,
  UnsupportedError,
} from '../../src/common/errors.js'
import type { QuantizeModelOptions } from '../../src/model.js'
import { type TinyModelOverrides, type TinyTensor, tinyText } from '../support/tiny-model.js'

export type ErrorClass = new (...args: never[]) => GptvqError

/** A model folder or options that must be refused. */
export interface BadInput {
  /** Prepares the model folder and gives further options; nothing for the sound model. */
  readonly prepare?: (model: string) => Promise<unknown>
  readonly model?: TinyModelOverrides
  readonly options?: Partial<QuantizeModelOptions>
  readonly error: ErrorClass
  /** What the message must name. */
  readonly says: readonly (string | RegExp)[]
}

/** Changes one tensor of the tiny model. */
export const edit =
  (name: string, change: (tensor: TinyTensor) => void) => (tensors: Map<string, TinyTensor>) => {
    const tensor = tensors.get(name)
    if (tensor === undefined) throw new Error(`the tiny model has no ${name}`)
    change(tensor)
  }

/** A tensor to damage. */
export const up = 'model.layers.1.mlp.up_proj.weight'

const without = (name: string, ...says: string[]): BadInput => ({
  model: { tensors: (tensors) => tensors.delete(name) },
  error: CheckpointError,
  says: [`${name}: no such tensor`, ...says],
})

/** Bad for every method. */
export const badModels: Record<string, BadInput> = {
  'a missing folder': {
    prepare: (model) => rm(model, { recursive: true }),
    error: CheckpointError,
    says: [/model: there is no such folder/],
  },
  'a file in place of a folder': {
    prepare: async (model) => {
      await rm(model, { recursive: true })
      await writeFile(model, 'weights')
    },
    error: CheckpointError,
    says: [/model: is a file, expected a model folder/],
  },
  'a folder without config.json': {
    prepare: (model) => rm(join(model, 'config.json')),
    error: CheckpointError,
    says: [/model: holds no config\.json/],
  },
  'a config.json that is not JSON': {
    prepare: (model) => writeFile(join(model, 'config.json'), '{"model_type": "lla'),
    error: CheckpointError,
    says: [/config\.json/, /JSON/],
  },
  'a config.json without a size': {
    model: { config: { hidden_size: undefined } },
    error: CheckpointError,
    says: [/config\.json: hidden_size is missing; expected a positive whole number/],
  },
  'an architecture that is not supported': {
    model: { config: { model_type: 'gpt2', architectures: ['GPT2LMHeadModel'] } },
    error: UnsupportedError,
    says: [/model_type "gpt2"/, /supported: llama, mistral/],
  },
  'a folder without weights': {
    prepare: (model) => rm(join(model, 'model.safetensors')),
    error: CheckpointError,
    says: [/model/, /safetensors/],
  },
  'weights truncated halfway': {
    prepare: async (model) => {
      const file = join(model, 'model.safetensors')
      await truncate(file, Math.floor((await readFile(file)).length / 2))
    },
    error: CheckpointError,
    says: [/model\.safetensors/, /truncated|short|ends|bytes/],
  },
  'weights truncated in the header': {
    prepare: (model) => truncate(join(model, 'model.safetensors'), 100),
    error: CheckpointError,
    says: [/model\.safetensors/],
  },
  'an empty weights file': {
    prepare: (model) => truncate(join(model, 'model.safetensors'), 0),
    error: CheckpointError,
    says: [/model\.safetensors/],
  },
  'a missing tensor': without(up, '48 x 32'),
  'a missing embedding': without('model.embed_tokens.weight', '258 x 32'),
  'a missing norm of a block': without('model.layers.1.post_attention_layernorm.weight', '32'),
  'a missing final norm': without('model.norm.weight', '32'),
  'a missing head that is not tied': without('lm_head.weight', '258 x 32', 'tie_word_embeddings is false'),
  'a missing bias': {
    model: { config: { attention_bias: true } },
    error: CheckpointError,
    says: ['model.layers.0.self_attn.q_proj.bias: no such tensor', '32'],
  },
  'a tensor of the wrong shape': {
    model: {
      tensors: edit(up, (tensor) => {
        tensor.shape = [32, 48]
      }),
    },
    error: CheckpointError,
    says: [up, 'found the shape 32 x 48', '48 x 32'],
  },
  'sizes in config.json that are not those of the weights': {
    model: { config: { intermediate_size: 64 } },
    error: CheckpointError,
    says: [/mlp\.\w+_proj\.weight: found the shape (48 x 32|32 x 48)/, '64'],
  },
  'NaN in a weight': {
    model: {
      tensors: edit(up, ({ values }) => {
        values[3 * 32 + 5] = Number.NaN
      }),
    },
    error: NumericError,
    says: [`${up}: found NaN at row 3, column 5`],
  },
  'infinity in a weight': {
    model: {
      tensors: edit('model.layers.0.self_attn.q_proj.weight', ({ values }) => {
        values[31] = Number.NEGATIVE_INFINITY
      }),
    },
    error: NumericError,
    says: ['model.layers.0.self_attn.q_proj.weight: found -Infinity at row 0, column 31'],
  },
}

/** Bad for methods that run the model only; RTN rounds each weight alone. */
export const badToRun: Record<string, BadInput> = {
  'NaN in a norm': {
    model: {
      tensors: edit('model.layers.1.input_layernorm.weight', ({ values }) => {
        values[7] = Number.NaN
      }),
    },
    error: NumericError,
    says: ['model.layers.1.input_layernorm.weight: found NaN', 'column 7'],
  },
  'NaN in the embedding of a token of the text': {
    model: {
      tensors: edit('model.embed_tokens.weight', ({ values }) => {
        values['e'.charCodeAt(0) * 32 + 9] = Number.NaN
      }),
    },
    error: NumericError,
    says: ['model.embed_tokens.weight', 'found NaN', 'column 9'],
  },
  'activations that overflow in a norm of finite weights': {
    model: { tensors: edit('model.layers.1.input_layernorm.weight', ({ values }) => values.fill(3e38)) },
    error: NumericError,
    says: [/model\.layers\.1\.self_attn/, /NaN|Infinity/],
  },
  'activations that overflow between two layers of finite weights': {
    model: { tensors: edit('model.layers.0.mlp.gate_proj.weight', ({ values }) => values.fill(3e38)) },
    error: NumericError,
    says: [/model\.layers\.0\.mlp\.gate_proj/, /NaN|Infinity/],
  },
  'a calibration text that is too short': {
    options: { calibration: { text: tinyText(63) } },
    error: TextError,
    says: ['calibration text is too short', '63 tokens', 'one sequence needs 64'],
  },
  'an empty calibration text': {
    options: { calibration: { text: '' } },
    error: TextError,
    says: ['calibration text is too short', '0 tokens'],
  },
  'a calibration file that is not there': {
    options: { calibration: join('nowhere', 'calibration.txt') },
    error: TextError,
    says: [join('nowhere', 'calibration.txt'), 'cannot be read'],
  },
  'token ids beyond the vocabulary': {
    options: { calibration: { tokens: new Int32Array(128).fill(258) } },
    error: TextError,
    says: ['id 258', 'vocabulary has 258 tokens'],
  },
  'calibration sequences of several lengths': {
    options: { calibration: { sequences: [new Int32Array(8), new Int32Array(9)] } },
    error: TextError,
    says: ['8, 9 tokens'],
  },
  'a tokenizer of another vocabulary': {
    model: { vocabSize: 300 },
    error: UnsupportedError,
    says: ['tokenizer.json', '299', '258'],
  },
  'a folder without a tokenizer': {
    prepare: (model) => rm(join(model, 'tokenizer.json')),
    error: CheckpointError,
    says: ['tokenizer.json: no such file'],
  },
  'a damaged tokenizer': {
    prepare: (model) => truncate(join(model, 'tokenizer.json'), 500),
    error: CheckpointError,
    says: ['tokenizer.json', 'damaged'],
  },
  'a model that cannot write its own text, having no BOS': {
    model: { config: { bos_token_id: null } },
    options: { calibration: undefined },
    error: UnsupportedError,
    says: ['bos_token_id', 'Give a calibration text'],
  },
}

const option = (options: Record<string, unknown>, name: string, ...says: string[]): BadInput => ({
  options: options as Partial<QuantizeModelOptions>,
  error: OptionError,
  says: [`${name}: `, ...says],
})

export const badOptions: Record<string, BadInput> = {
  'bits 0': option({ bits: 0 }, 'bits', 'from 1 to 8', 'got 0'),
  'bits 9': option({ bits: 9 }, 'bits', 'from 1 to 8', 'got 9'),
  'bits 2.5 of plain codebooks': option({ bits: 2.5, trellisBits: 0 }, 'bits', 'whole number', 'got 2.5'),
  'bits NaN': option({ bits: Number.NaN }, 'bits', 'got NaN'),
  'more than 65536 centroids': option({ bits: 5, vectorDim: 4 }, 'bits', 'at most 65536'),
  '3 dimensions': option({ vectorDim: 3 }, 'vectorDim', '1, 2, 4', 'got 3'),
  'a group smaller than a vector': option({ groupSize: 1 }, 'groupSize', 'smaller than a vector of 2'),
  'a group of no weights': option({ groupSize: 0 }, 'groupSize', 'got 0'),
  'a group of fewer vectors than centroids': option(
    { groupSize: 30, columnsPerGroup: 2, trellisBits: 0 },
    'groupSize',
    '15 vectors, fewer than its 16 centroids',
    'at least 32',
  ),
  'groups that are not whole rows': option(
    { groupSize: 100, columnsPerGroup: 32 },
    'groupSize',
    'multiple',
    '100',
  ),
  'columns that cut a vector': option(
    { columnsPerGroup: 31 },
    'columnsPerGroup',
    'multiple of vectorDim',
    '31',
  ),
  'a bpv of no more than the bits': option(
    { bpv: 2, trellisBits: 0 },
    'bpv',
    'more than the 2 index bits',
    'got 2',
  ),
  'a bpv below any bits': option({ bpv: 0.55 }, 'bpv', 'cannot be met'),
  'bits of no trellis and no plain codebook': option(
    { bits: 5.9, vectorDim: 2 },
    'bits',
    'got 5.9',
    'rounds to 11 at most',
  ),
  'a bpv that the trellis cannot use': option(
    { bits: 2, bpv: 8, vectorDim: 2 },
    'bpv',
    'q_proj',
    '8 is more than',
    'lower',
  ),
  'mixed bits where all indices are the same': option(
    { bpv: 2.5, indexWidths: 'same' },
    'indexWidths',
    'mixed',
    'set bits to a number',
  ),
  'a bpv beside a group size': option({ bpv: 3, groupSize: 64 }, 'bpv', 'not both'),
  'a bpv that no group size reaches': option({ bpv: 2.001, trellisBits: 0 }, 'bpv', '2.001'),
  'an option that there is not': option(
    { refinementRound: 2 },
    'refinementRound',
    'no such option',
    'Did you mean refinementRounds?',
  ),
  'blocks of 24 weights to a scale': option(
    { scaleBlockSize: 24 },
    'scaleBlockSize',
    '16, 32, 64, 128',
    'got 24',
  ),
  'blocks of scales that do not fill a group': option(
    { scaleBlockSize: 64, columnsPerGroup: 32 },
    'scaleBlockSize',
    'columnsPerGroup (32)',
    'multiple of 64',
  ),
  'codebooks of 7 bits': option({ codebookBits: 7 }, 'codebookBits', '8, 16', 'got 7'),
  'a negative damping': option({ damping: -0.1 }, 'damping', 'a number from 0', 'got -0.1'),
  'a damping of NaN': option({ damping: Number.NaN }, 'damping', 'got NaN'),
  'seeds by CDF in 2 dimensions': option({ kmeansInit: 'cdf' }, 'kmeansInit', 'vectorDim 1 only'),
  'unknown seeds': option({ kmeansInit: 'random' }, 'kmeansInit', 'got random'),
  'an unknown method': option({ method: 'awq' }, 'method', 'gptvq, gptq, rtn', 'got awq'),
  'a vector option for a scalar method': option({ method: 'gptq', vectorDim: 2 }, 'vectorDim', "'gptq'"),
  'a negative seed': option({ seed: -1 }, 'seed', 'got -1'),
  'no sequences': option({ sequences: 0 }, 'sequences', 'got 0'),
  'sequences of one token': option({ sequenceLength: 1 }, 'sequenceLength', 'got 1'),
  'an unknown engine': option({ engine: 'gpu' }, 'engine', 'wasm', '"gpu"'),
  'shards of no bytes': option({ maxShardBytes: 0 }, 'maxShardBytes', 'got 0'),
}
