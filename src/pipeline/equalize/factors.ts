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
export function powersOfTwo(factors: Float64Array): Float32Array {
  return Float32Array.from(factors, (factor) => 2 ** Math.round(Math.log2(factor)))
}

/** A channel that is always 0 has no size to move. */
function orOne(factor: number): number {
  return Number.isFinite(factor) && factor > 0 ? factor : 1
}
