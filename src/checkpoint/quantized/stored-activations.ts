import { roundActivations } from '../../activations/rounding.js'
import { CheckpointError } from '../../common/errors.js'
import type { ActivationPlace, OnActivations } from '../../model/decoder/weights.js'
import { shownJson } from '../json-file.js'

/** How activations are rounded where a quantized model is run. */
export interface StoredActivations {
  /** Of the inputs of quantized layers. */
  readonly inputs?: StoredRounding
  /** Of the keys and values that attention reads, before they reach the cache. */
  readonly cache?: StoredRounding
  /**
   * Static ranges: least and greatest value, by the name of a layer, or of a block's `keys` or `values` behind its prefix.
   * Left out: each token has its own range, of the cache each of its heads.
   */
  readonly ranges?: Readonly<Record<string, readonly [low: number, high: number]>>
}

/** A grid of codes. */
export interface StoredRounding {
  /** 4 to 16. */
  readonly bits: number
  /** Whether 0 is in the middle of the codes. */
  readonly symmetric: boolean
}

/** @throws CheckpointError naming the field that is impossible */
export function parseActivations(value: unknown, where: string): StoredActivations {
  const { inputs, cache, ranges } = objectOf(value, where, 'activations')
  if (inputs === undefined && cache === undefined) {
    throw damaged(where, 'activations', value, 'inputs or cache in it')
  }
  return {
    ...(inputs !== undefined && { inputs: parseRounding(inputs, where, 'activations.inputs') }),
    ...(cache !== undefined && { cache: parseRounding(cache, where, 'activations.cache') }),
    ...(ranges !== undefined && { ranges: parseRanges(ranges, where) }),
  }
}

/**
 * Rounds the activations of a model as its folder says.
 *
 * @param isQuantized whether the layer of this name is: the inputs of all others stay as they are
 */
export function activationListener(
  { inputs, cache, ranges }: StoredActivations,
  isQuantized: (layer: string) => boolean,
): OnActivations {
  const rangeOf = (name: string) => {
    if (ranges === undefined || Object.hasOwn(ranges, name)) return ranges?.[name]
    throw new CheckpointError(
      `activations.ranges has none for ${name}; expected one for every quantized layer. Quantize the model again`,
    )
  }
  const round = ({ name, width }: ActivationPlace, values: Float32Array) => {
    const rounding = /\.(keys|values)$/.test(name) ? cache : isQuantized(name) ? inputs : undefined
    if (rounding === undefined) return undefined
    const range = rangeOf(name)
    return roundActivations(values, width, range ? { ...rounding, range } : rounding)
  }
  return Object.assign(round, { limits: ({ name }: ActivationPlace) => rangeOf(name) })
}

function parseRounding(value: unknown, where: string, field: string): StoredRounding {
  const { bits, symmetric } = objectOf(value, where, field)
  if (typeof bits !== 'number' || !Number.isInteger(bits) || bits < 4 || bits > 16) {
    throw damaged(where, `${field}.bits`, bits, 'a whole number from 4 to 16')
  }
  if (typeof symmetric !== 'boolean') throw damaged(where, `${field}.symmetric`, symmetric, 'true or false')
  return { bits, symmetric }
}

function parseRanges(value: unknown, where: string): Record<string, readonly [number, number]> {
  return Object.fromEntries(
    Object.entries(objectOf(value, where, 'activations.ranges')).map(([name, range]) => {
      if (Array.isArray(range) && range.length === 2 && range.every(Number.isFinite)) {
        const [low, high]: number[] = range
        if (low <= 0 && high >= 0) return [name, [low, high] as const]
      }
      throw damaged(where, `activations.ranges of ${name}`, range, '[least, greatest], with 0 between')
    }),
  )
}

function objectOf(value: unknown, where: string, field: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>
  throw damaged(where, field, value, 'an object')
}

function damaged(where: string, field: string, found: unknown, expected: string): CheckpointError {
  return new CheckpointError(
    `${where}: ${field} is ${shownJson(found)}, expected ${expected}. ` +
      'The file was changed or damaged; quantize the model again',
  )
}
