/**
 * Factors of SmoothQuant: channels are divided by `inputs^strength / weights^(1 - strength)`, the columns that read them
 * multiplied by it.
 *
 * @param inputs the largest magnitude of each channel
 * @param weights the largest magnitude in the columns that read it
 */
export function smoothFactors(inputs: Float32Array, weights: Float32Array, strength: number): Float64Array {
  return Float64Array.from(inputs, (size, channel) =>
    orOne(size ** strength / weights[channel] ** (1 - strength)),
  )
}

/**
 * `inputs^a / weights^b`, a geometric mean of 1 apart: with `b` 0 columns grow with their inputs, so that a grid of the
 * row is finest for those that count.
 */
export function evenedFactors(
  inputs: Float32Array,
  weights: Float32Array,
  a: number,
  b: number,
): Float64Array {
  const factors = Float64Array.from(inputs, (size, channel) => orOne(size ** a / weights[channel] ** b))
  const mean = Math.exp(factors.reduce((sum, factor) => sum + Math.log(factor), 0) / factors.length)
  return factors.map((factor) => factor / mean)
}

/**
 * Factors of cross-layer equalization: the rows that make a channel and the columns that read it come to have the same
 * largest magnitude, their geometric mean.
 */
export function crossLayerFactors(rows: Float32Array, columns: Float32Array): Float64Array {
  return Float64Array.from(rows, (size, channel) => orOne(Math.sqrt(size / columns[channel])))
}

/**
 * The nearest powers of two: multiplied by these, floats of any width keep all their digits, so that the equalized model
 * gives the same logits bit for bit, and its norms keep their dtype.
 */
export function powersOfTwo(factors: Float64Array): Float64Array {
  return factors.map((factor) => 2 ** Math.round(Math.log2(factor)))
}

/** Significant bits of a bfloat16. */
const SHORT_BITS = 8

/**
 * The nearest factors that leave a norm's weights with so few digits that every dtype holds them: factors need not be
 * powers of two then.
 *
 * @param weights of the norm, as stored
 * @param offset what the norm adds to them
 */
export function shortFactors(factors: Float64Array, weights: Float32Array, offset: number): Float64Array {
  return factors.map((factor, channel) => {
    const value = weights[channel] + offset
    const short = shortened(value / factor - offset) + offset
    return orOne(value / short)
  })
}

function shortened(value: number): number {
  if (value === 0) return 0
  const step = 2 ** (Math.floor(Math.log2(Math.abs(value))) + 1 - SHORT_BITS)
  return Math.round(value / step) * step
}

/** A channel that is always 0 has no size to move. */
function orOne(factor: number): number {
  return Number.isFinite(factor) && factor > 0 ? factor : 1
}
