import { CheckpointError, UnsupportedError } from '../errors.js'

/** How rotary frequencies are stretched for contexts longer than those of the first training. */
export type RopeScaling =
  | {
      /** Not at all. */
      readonly type: 'default'
    }
  | {
      /** All frequencies alike. */
      readonly type: 'linear'
      /** By how much. */
      readonly factor: number
    }
  | {
      /** Low frequencies, high ones not, those between in part (Llama 3.1). */
      readonly type: 'llama3'
      /** By how much, at most. */
      readonly factor: number
      /** Frequencies that turn fewer times than this over the original context are low. */
      readonly lowFreqFactor: number
      /** Frequencies that turn more times than this over the original context are high. */
      readonly highFreqFactor: number
      /** The original context, in tokens. */
      readonly originalMaxPositions: number
    }

/**
 * The rotary settings of a `config.json`: `rope_parameters` (transformers 5) or `rope_scaling` (before).
 *
 * @throws CheckpointError when the section is not an object
 */
export function ropeSection(config: Record<string, unknown>, where: string): Record<string, unknown> {
  const name = config.rope_parameters == null ? 'rope_scaling' : 'rope_parameters'
  const section = config[name] ?? {}
  if (typeof section !== 'object' || Array.isArray(section)) {
    throw new CheckpointError(`${where}: ${name} is ${JSON.stringify(section)}; expected an object or null`)
  }
  return section as Record<string, unknown>
}

/**
 * @param rope what {@link ropeSection} found
 * @param maxPositions stands in for a missing `original_max_position_embeddings`
 * @throws UnsupportedError for a kind of scaling that is not implemented, naming it
 * @throws CheckpointError for a missing or impossible number
 */
export function parseRopeScaling(
  rope: Record<string, unknown>,
  maxPositions: number,
  where: string,
): RopeScaling {
  const type = rope.rope_type ?? rope.type ?? 'default'
  const partial = rope.partial_rotary_factor ?? 1
  if (partial !== 1) {
    throw new UnsupportedError(
      `${where}: partial_rotary_factor ${JSON.stringify(partial)} is not supported; only 1 is`,
    )
  }
  const number = (name: string, fallback?: number) => {
    const found = rope[name] ?? fallback
    if (typeof found === 'number' && found > 0 && Number.isFinite(found)) return found
    throw new CheckpointError(
      `${where}: ${name} of the ${type} rotary scaling is ${JSON.stringify(found) ?? 'missing'}; expected a positive number`,
    )
  }
  if (type === 'default') return { type }
  if (type === 'linear') return { type, factor: number('factor') }
  if (type === 'llama3') {
    const lowFreqFactor = number('low_freq_factor')
    const highFreqFactor = number('high_freq_factor')
    if (highFreqFactor <= lowFreqFactor) {
      throw new CheckpointError(
        `${where}: high_freq_factor is ${highFreqFactor}; expected more than low_freq_factor (${lowFreqFactor})`,
      )
    }
    const originalMaxPositions = number('original_max_position_embeddings', maxPositions)
    return { type, factor: number('factor'), lowFreqFactor, highFreqFactor, originalMaxPositions }
  }
  throw new UnsupportedError(
    `${where}: rotary scaling ${JSON.stringify(type)} is not supported; supported: default, linear, llama3`,
  )
}
