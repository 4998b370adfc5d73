import type { RotaryDescription, RotaryScaling } from '../../decoder/description.js'
import { type ConfigReader, isNumber, isPositive, positiveNumber, show } from './read-config.js'

/** Fields of any section. */
const sectionFields = ['rope_type', 'type', 'rope_theta', 'partial_rotary_factor']

/** Further fields of a section, by kind. */
const scalingFields: Readonly<Record<RotaryScaling['kind'], readonly string[]>> = {
  default: [],
  linear: ['factor'],
  dynamic: ['factor'],
  llama3: ['factor', 'low_freq_factor', 'high_freq_factor', 'original_max_position_embeddings'],
  yarn: [
    'factor',
    'original_max_position_embeddings',
    'attention_factor',
    'beta_fast',
    'beta_slow',
    'mscale',
    'mscale_all_dim',
    'truncate',
  ],
  longrope: ['short_factor', 'long_factor', 'factor', 'original_max_position_embeddings', 'attention_factor'],
}

/** What a family says of its rotary positions. */
export interface RotaryOptions {
  readonly headDim: number
  readonly maxPositions: number
  /** The base when the file has none; 10000 when left out. */
  readonly theta?: number
  /** The share of a head that is turned when the file has none. Left out: the family turns all of it and has no share. */
  readonly share?: number
  /** Names of the base and the share at the top level; `rope_theta` and `partial_rotary_factor` when left out. */
  readonly names?: { readonly theta: string; readonly share: string }
  /** `original_max_position_embeddings` when the top level has none, which then outweighs that of the section. */
  readonly originalMaxPositions?: number
  /** Kinds of scaling that the family has; all when left out. */
  readonly kinds?: readonly RotaryScaling['kind'][]
  /** Other names of kinds of scaling. */
  readonly aliases?: Readonly<Record<string, RotaryScaling['kind']>>
}

/**
 * The rotary positions of a `config.json`, as transformers reads them: settings lie in `rope_scaling` or
 * `rope_parameters` (the first wins where there are both), base and share there or at the top level, and an
 * `original_max_position_embeddings` at the top level outweighs that of the section.
 */
export function readRotary(read: ConfigReader, options: RotaryOptions): RotaryDescription {
  const names = options.names ?? { theta: 'rope_theta', share: 'partial_rotary_factor' }
  const scaling = read.section('rope_scaling')
  const parameters = read.section('rope_parameters')
  if (scaling !== undefined && parameters !== undefined && show(scaling) !== show(parameters)) {
    read.note('rope_scaling and rope_parameters differ; rope_scaling is used, as transformers does')
  }
  const name = scaling === undefined ? 'rope_parameters' : 'rope_scaling'
  const section = scaling ?? parameters ?? {}
  const nested = Object.keys(section).find(
    (key) => typeof section[key] === 'object' && key.endsWith('attention'),
  )
  if (nested !== undefined) {
    read.refuse(`${name}.${nested}`, section[nested], 'the same rotary positions for all layers')
  }
  const original = read.optionalCount('original_max_position_embeddings', options.originalMaxPositions)
  const rotary = rotaryOf(read, section, name, {
    ...options,
    theta: read.positive(names.theta, options.theta ?? 10000),
    topShare: read.optionalPositive(names.share, options.share),
    topOriginal: original,
  })
  if (options.names !== undefined) {
    // files hold the usual names too, which say the same
    read.only('rope_theta', [rotary.theta])
    const share = read.optionalPositive('partial_rotary_factor', undefined)
    if (share !== undefined && Math.floor(share * options.headDim) !== rotary.dims) {
      read.fail('partial_rotary_factor', share, `what ${names.share} says`)
    }
  }
  return rotary
}

/** {@link RotaryOptions} with what the top level says. */
export interface SectionOptions extends RotaryOptions {
  readonly theta: number
  readonly topShare?: number | undefined
  readonly topOriginal?: number | undefined
  /** Where {@link RotaryScaling} `truncate` is read, when not in the section. */
  readonly truncateFrom?: Record<string, unknown>
}

/**
 * The rotary positions that a section describes.
 *
 * @param name how errors name the section
 */
export function rotaryOf(
  read: ConfigReader,
  section: Record<string, unknown>,
  name: string,
  options: SectionOptions,
): RotaryDescription {
  const { headDim } = options
  const field = (key: string, fallback?: number) => {
    const found = section[key] ?? fallback
    return isPositive(found) ? found : read.fail(`${name}.${key}`, found, positiveNumber)
  }
  const share =
    section.partial_rotary_factor == null ? (options.topShare ?? 1) : field('partial_rotary_factor')
  if (share !== 1 && options.share === undefined) {
    read.refuse('partial_rotary_factor', share, '1, the family turns whole heads')
  }
  if (share > 1) read.fail('partial_rotary_factor', share, 'at most 1')
  const dims = Math.floor(headDim * share)
  if (dims === 0 || dims % 2 !== 0) {
    const what = share === 1 ? 'head_dim' : `head_dim (${headDim}) times partial_rotary_factor (${share})`
    read.fail(what, dims, 'an even number (rotary positions turn pairs)')
  }
  const theta = field('rope_theta', options.theta)
  const scaling = readScaling(read, section, name, dims, { ...options, theta })
  const unused = Object.keys(section).filter(
    (key) => ![...sectionFields, ...scalingFields[scaling.kind]].includes(key),
  )
  if (unused.length > 0) {
    read.note(
      `${name} of the kind ${scaling.kind} does not use ${unused.join(', ')}, here as in transformers`,
    )
  }
  return { dims, theta, scaling }
}

function readScaling(
  read: ConfigReader,
  section: Record<string, unknown>,
  name: string,
  dims: number,
  options: SectionOptions,
): RotaryScaling {
  const key = section.rope_type == null && section.type != null ? 'type' : 'rope_type'
  const stated = section[key] ?? 'default'
  const { aliases = {} } = options
  if (typeof stated !== 'string') {
    return read.fail(`${name}.${key}`, stated, 'the name of a kind of rotary positions')
  }
  const kind = Object.hasOwn(aliases, stated) ? aliases[stated] : stated
  const kinds: readonly string[] = options.kinds ?? Object.keys(scalingFields)
  const refuse = () => read.refuse(`${name}.${key}`, kind, kinds.join(', '))
  if (!kinds.includes(kind)) refuse()
  const positive = (key: string, fallback?: number) => {
    const found = section[key] ?? fallback
    return isPositive(found)
      ? found
      : read.fail(`${key} of the ${kind} rotary scaling in ${name}`, found, positiveNumber)
  }
  const { maxPositions, topOriginal, theta } = options
  const original = () => topOriginal ?? positive('original_max_position_embeddings', maxPositions)
  switch (kind) {
    case 'default':
      return { kind }
    case 'linear':
      return { kind, factor: positive('factor') }
    case 'dynamic':
      if (dims <= 2) read.fail('head_dim', dims, 'more than 2 for dynamic rotary scaling')
      return { kind, factor: positive('factor'), originalMaxPositions: maxPositions }
    case 'llama3': {
      const lowFreqFactor = positive('low_freq_factor')
      const highFreqFactor = positive('high_freq_factor')
      if (highFreqFactor <= lowFreqFactor) {
        read.fail('high_freq_factor', highFreqFactor, `more than low_freq_factor (${lowFreqFactor})`)
      }
      const factor = positive('factor')
      return { kind, factor, lowFreqFactor, highFreqFactor, originalMaxPositions: original() }
    }
    case 'yarn': {
      if (theta <= 1) read.fail('rope_theta', theta, 'more than 1 for yarn')
      const originalMaxPositions = original()
      const factor = positive(
        'factor',
        section.factor === null ? maxPositions / originalMaxPositions : undefined,
      )
      const { truncate = true } = options.truncateFrom ?? section
      if (typeof truncate !== 'boolean') return read.fail(`${name}.truncate`, truncate, 'true or false')
      return {
        kind,
        factor,
        betaFast: section.beta_fast === 0 ? 32 : positive('beta_fast', 32),
        betaSlow: section.beta_slow === 0 ? 1 : positive('beta_slow', 1),
        truncate,
        originalMaxPositions,
        attentionFactor: positive('attention_factor', yarnAttentionFactor(factor, section)),
      }
    }
    case 'longrope': {
      const originalMaxPositions = original()
      const factor = positive('factor', maxPositions / originalMaxPositions)
      const usual = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalMaxPositions))
      return {
        kind,
        shortFactors: factors(read, section, name, 'short_factor', dims),
        longFactors: factors(read, section, name, 'long_factor', dims),
        originalMaxPositions,
        attentionFactor: positive('attention_factor', usual),
      }
    }
    default:
      return refuse()
  }
}

/** `0.1 m ln(factor) + 1` (arXiv 2309.00071, section 3.4), or the ratio of two of them where the section says so. */
function yarnAttentionFactor(factor: number, section: Record<string, unknown>): number {
  const heat = (scale: number) => (factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1)
  const { mscale, mscale_all_dim: all } = section
  return isNumber(mscale) && isNumber(all) && mscale !== 0 && all !== 0 ? heat(mscale) / heat(all) : heat(1)
}

function factors(
  read: ConfigReader,
  section: Record<string, unknown>,
  name: string,
  key: string,
  dims: number,
): readonly number[] {
  const found = section[key]
  const usable = Array.isArray(found) && found.length === dims / 2 && found.every(isPositive)
  return usable ? found : read.fail(`${name}.${key}`, found, `a list of ${dims / 2} positive numbers`)
}
