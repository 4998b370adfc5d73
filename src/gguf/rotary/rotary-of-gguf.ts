import { UnsupportedError } from '../../common/errors.js'
import { decodeType } from '../blocks/tensor-types.js'
import type { GgufFacts } from '../facts.js'
import { llama3Factors } from './rotary-factors.js'

/** The fields of a `config.json` about rotary positions. */
export async function rotaryOfGguf(facts: GgufFacts, family: string): Promise<Record<string, unknown>> {
  const theta = facts.optional('rope.freq_base') ?? 10000
  const headDim = headDimOf(facts)
  const dims = facts.optional('rope.dimension_count') ?? headDim
  const share = dims / headDim
  if (family === 'gpt_neox') return { rotary_emb_base: theta, rotary_pct: share, ...notScaled(facts) }
  const scaling = await scalingOf(facts, { theta, dims })
  // families differ in what they take a share that is not stated for
  const parts = { partial_rotary_factor: share }
  if (family === 'gemma3_text' || family === 'olmo3') {
    const local = facts.optional('rope.freq_base_swa')
    const base = {
      rope_theta: theta,
      ...(family === 'gemma3_text' && { rope_local_base_freq: local ?? 1e4 }),
    }
    if (family === 'gemma3_text') return { ...base, ...scaling }
    const full = (scaling.rope_scaling ?? { rope_type: 'default' }) as Record<string, unknown>
    return {
      rope_parameters: {
        full_attention: { rope_theta: theta, ...full },
        sliding_attention: { rope_type: 'default', rope_theta: local ?? theta },
      },
    }
  }
  return { rope_theta: theta, ...parts, ...scaling }
}

function headDimOf(facts: GgufFacts): number {
  const stated = facts.optional('attention.key_length')
  if (stated !== undefined) return stated
  const { metadata } = facts.file
  return facts.number('embedding_length') / metadata.number(`${facts.architecture.name}.attention.head_count`)
}

async function scalingOf(
  facts: GgufFacts,
  base: { readonly theta: number; readonly dims: number },
): Promise<Record<string, unknown>> {
  const { metadata } = facts.file
  if (facts.has('rope_factors_long.weight')) return longropeOf(facts)
  if (facts.has('rope_freqs.weight')) return llama3Of(facts, base)
  const kind = metadata.optionalText(`${facts.architecture.name}.rope.scaling.type`) ?? 'none'
  const factor = facts.optional('rope.scaling.factor')
  switch (kind) {
    case 'none':
      return {}
    case 'linear':
      return factor === undefined || factor === 1 ? {} : { rope_scaling: { rope_type: 'linear', factor } }
    case 'yarn':
      return { rope_scaling: yarnOf(facts) }
    default:
      throw new UnsupportedError(
        `${facts.file.path}: rotary scaling of the kind ${JSON.stringify(kind)} is not read; supported: none, linear, yarn, and the factors of Llama 3 and longrope`,
      )
  }
}

function yarnOf(facts: GgufFacts): Record<string, unknown> {
  const optional = { beta_fast: 'yarn_beta_fast', beta_slow: 'yarn_beta_slow' }
  const fields: Record<string, unknown> = {
    rope_type: 'yarn',
    factor: facts.number('rope.scaling.factor'),
    original_max_position_embeddings: facts.number('rope.scaling.original_context_length'),
  }
  for (const [field, key] of Object.entries(optional)) {
    const value = facts.optional(`rope.scaling.${key}`)
    if (value !== undefined) fields[field] = value
  }
  const attention = facts.optional('rope.scaling.attn_factor')
  // llama.cpp multiplies the usual factor of yarn by this one
  if (attention !== undefined && attention !== 1) {
    fields.attention_factor = attention * (0.1 * Math.log(Number(fields.factor)) + 1)
  }
  return fields
}

async function longropeOf(facts: GgufFacts): Promise<Record<string, unknown>> {
  const attention = facts.optional('rope.scaling.attn_factor')
  return {
    original_max_position_embeddings: facts.number('rope.scaling.original_context_length'),
    rope_scaling: {
      rope_type: 'longrope',
      short_factor: await floatsOf(facts, 'rope_factors_short.weight'),
      long_factor: await floatsOf(facts, 'rope_factors_long.weight'),
      ...(attention !== undefined && { attention_factor: attention }),
    },
  }
}

/**
 * A file holds the factors of Llama 3's scaling and not what they were made of. All such models have 1 and 4 as their
 * two limits; factor and original length follow, and are checked by making the factors anew.
 */
async function llama3Of(
  facts: GgufFacts,
  { theta, dims }: { readonly theta: number; readonly dims: number },
): Promise<Record<string, unknown>> {
  const found = await floatsOf(facts, 'rope_freqs.weight')
  const factor = shortDecimal(Math.max(...found))
  if (factor === 1) return {}
  const limits = { kind: 'llama3', factor, lowFreqFactor: 1, highFreqFactor: 4 } as const
  for (let original = 1; original <= 2 ** 20; original *= 2) {
    const scaling = { ...limits, originalMaxPositions: original }
    const made = llama3Factors({ dims, theta, scaling })
    const alike = made.length === found.length && made.every((one, i) => Math.abs(one / found[i] - 1) < 1e-4)
    if (!alike) continue
    return {
      rope_scaling: {
        rope_type: 'llama3',
        factor,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: original,
      },
    }
  }
  throw new UnsupportedError(
    `${facts.file.path}: the factors in rope_freqs.weight are not those of Llama 3's scaling with the limits 1 and 4 and ` +
      'an original length of a power of two; use the model that the file was made of',
  )
}

function notScaled(facts: GgufFacts): Record<string, never> {
  const kind = facts.file.metadata.optionalText(`${facts.architecture.name}.rope.scaling.type`) ?? 'none'
  if (kind === 'none') return {}
  throw new UnsupportedError(
    `${facts.file.path}: rotary scaling is not read for ${facts.architecture.name}, got ${kind}`,
  )
}

async function floatsOf({ file }: GgufFacts, name: string): Promise<number[]> {
  const tensor = file.tensors.get(name)!
  const values = new Float32Array(tensor.shape.reduce((product, size) => product * size, 1))
  decodeType(tensor.type, await tensor.read(0, tensor.bytes), values)
  return Array.from(values)
}

function shortDecimal(value: number): number {
  return Number(value.toPrecision(5))
}
