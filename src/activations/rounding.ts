/** How activations are rounded to whole numbers of a scale, as hardware for whole numbers would have them. */
export interface ActivationRounding {
  /** 4 to 16. */
  readonly bits: number
  /** 0 in the middle of the codes, and no zero point. */
  readonly symmetric: boolean
  /** What the codes span, for all tokens. Undefined: each row is spanned by its own codes (dynamic). */
  readonly range?: readonly [low: number, high: number]
}

/** A grid of codes from 0 to `largest`; a code stands for `(code - zero) * scale`. */
interface CodeGrid {
  readonly scale: number
  readonly zero: number
  readonly largest: number
}

/** The grid of `2^bits` codes that spans `low` to `high` and 0; a symmetric one has as many codes below 0 as above, and one. */
export function activationGrid(low: number, high: number, { bits, symmetric }: ActivationRounding): CodeGrid {
  const from = Math.min(0, low)
  const to = Math.max(0, high)
  const largest = 2 ** bits - 1
  if (symmetric) {
    const zero = 2 ** (bits - 1)
    const scale = Math.max(to / (zero - 1), -from / zero)
    return { scale: scale || 1, zero, largest }
  }
  const scale = (to - from) / largest || 1
  return { scale, zero: Math.round(-from / scale), largest }
}

/**
 * Rounds activations to codes and back.
 *
 * @param values rows of `width` values; one row has one grid where the rounding is dynamic
 * @returns the values that the codes stand for, a new array. NaN stays NaN
 */
export function roundActivations(
  values: Float32Array,
  width: number,
  rounding: ActivationRounding,
): Float32Array {
  const result = new Float32Array(values.length)
  const { range } = rounding
  if (range) {
    roundRun(values, 0, values.length, activationGrid(range[0], range[1], rounding), result)
    return result
  }
  for (let start = 0; start < values.length; start += width) {
    let low = 0
    let high = 0
    for (let i = start; i < start + width; i++) {
      if (values[i] < low) low = values[i]
      else if (values[i] > high) high = values[i]
    }
    roundRun(values, start, start + width, activationGrid(low, high, rounding), result)
  }
  return result
}

function roundRun(
  values: Float32Array,
  start: number,
  end: number,
  { scale, zero, largest }: CodeGrid,
  result: Float32Array,
): void {
  const inverse = 1 / scale
  for (let i = start; i < end; i++) {
    const code = Math.round(values[i] * inverse) + zero
    result[i] = ((code < 0 ? 0 : code > largest ? largest : code) - zero) * scale
  }
}
