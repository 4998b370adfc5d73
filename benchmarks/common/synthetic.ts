/** Layers from a stated generator, for sizes and statistics that the embedded model has not. */
import { type Matrix, matrix } from 'gptvq'
import { deriveSeed, type Random, randomGenerator, randomNormal } from '../../src/common/random.js'

/** Correlation of neighbouring inputs. */
const CORRELATION = 0.8
/** Degrees of freedom of Student's t distribution: heavy tails, finite variance. */
const TAIL = 4
/** Input features come in sizes that differ by a log-normal factor of this deviation; every 64th is 8 times larger. */
const SIZE_DEVIATION = 0.5
const OUTLIER = { every: 64, factor: 4 }

/**
 * Of the variance, what all features share where there are tokens without end. No measured Hessian has the denormal numbers
 * that there would be far from the diagonal without it, with which some processors take a hundred times as long.
 */
const SHARED = 1e-6

/** The generator in words, for notes. */
export const generatorInWords =
  `weights: independent, Student's t with ${TAIL} degrees of freedom, rows of log-normal sizes; inputs: Gaussian, ` +
  `neighbours correlated by ${CORRELATION} (an AR(1) process along the features), features of log-normal sizes ` +
  `(deviation ${SIZE_DEVIATION}), every ${OUTLIER.every}th ${OUTLIER.factor} times larger`

/** rows x cols, heavy-tailed. */
export function heavyTailedWeight(rows: number, cols: number, seed: number): Matrix {
  const random = randomGenerator(deriveSeed(seed, 1))
  const weight = matrix(rows, cols)
  for (let r = 0; r < rows; r++) {
    const size = Math.exp(SIZE_DEVIATION * randomNormal(random)) / Math.sqrt(cols)
    for (let j = 0; j < cols; j++) weight.data[r * cols + j] = size * studentT(random)
  }
  return weight
}

/** rows x cols, independent standard normal: the plainest case there is. */
export function gaussianWeight(rows: number, cols: number, seed: number): Matrix {
  const random = randomGenerator(deriveSeed(seed, 2))
  return matrix(
    rows,
    cols,
    Float32Array.from({ length: rows * cols }, () => randomNormal(random)),
  )
}

function studentT(random: Random): number {
  let square = 0
  for (let i = 0; i < TAIL; i++) square += randomNormal(random) ** 2
  return randomNormal(random) / Math.sqrt(square / TAIL)
}

/** `tokens` inputs of `cols` correlated features. `draw` tells calibration from held-out inputs of the same layer. */
export function correlatedInputs(tokens: number, cols: number, seed: number, draw: number): Matrix {
  const sizes = featureSizes(cols, seed)
  const random = randomGenerator(deriveSeed(seed, 3, draw))
  const fresh = Math.sqrt(1 - CORRELATION ** 2)
  const inputs = matrix(tokens, cols)
  for (let t = 0; t < tokens; t++) {
    let value = randomNormal(random)
    for (let j = 0; j < cols; j++) {
      if (j > 0) value = CORRELATION * value + fresh * randomNormal(random)
      inputs.data[t * cols + j] = sizes[j] * value
    }
  }
  return inputs
}

/** The Hessian of {@link correlatedInputs} with tokens without end: `2 s_i s_j 0.8^|i - j|`, and a millionth that all share. */
export function correlatedHessian(cols: number, seed: number): Matrix {
  const sizes = featureSizes(cols, seed)
  const decay = Float64Array.from({ length: cols }, (_, distance) => 2 * (CORRELATION ** distance + SHARED))
  const hessian = matrix(cols, cols)
  for (let i = 0; i < cols; i++) {
    for (let j = 0; j < cols; j++) hessian.data[i * cols + j] = sizes[i] * sizes[j] * decay[Math.abs(i - j)]
  }
  return hessian
}

function featureSizes(cols: number, seed: number): Float64Array {
  const random = randomGenerator(deriveSeed(seed, 4))
  return Float64Array.from({ length: cols }, (_, j) => {
    const size = Math.exp(SIZE_DEVIATION * randomNormal(random))
    return j % OUTLIER.every === 0 ? OUTLIER.factor * size : size
  })
}
