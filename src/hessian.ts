import { NumericError, ShapeError } from './errors.js'
import { wholeBlock } from './kernels/contract.js'
import { kernels } from './kernels/kernels.js'
import { assertFinite, type Matrix, matrix } from './matrix.js'

const TOKENS_PER_PANEL = 256

/** The squares of a panel's values add up to less than the largest float32. */
const LARGEST_ACTIVATION = 1e18

/**
 * Sums `X^T X` over batches of a layer's inputs and gives the Hessian `H = (2 / tokens) X^T X` (DESIGN: mathematics, 1).
 *
 * Storage is one float32 matrix of inFeatures x inFeatures: the upper triangle holds the sum, the lower triangle the
 * rounding error of that sum, so that thousands of batches lose no precision.
 */
export class HessianAccumulator {
  readonly inFeatures: number
  readonly #sums: Float32Array
  readonly #diagonalErrors: Float32Array
  #tokens = 0

  /** @throws ShapeError when `inFeatures` is not a positive integer */
  constructor(inFeatures: number) {
    this.inFeatures = inFeatures
    this.#sums = matrix(inFeatures, inFeatures).data
    this.#diagonalErrors = new Float32Array(inFeatures)
  }

  /** Rows of activations seen so far. */
  get tokens(): number {
    return this.#tokens
  }

  /**
   * Adds a batch of activations, tokens x inFeatures.
   *
   * @throws ShapeError when the width differs from `inFeatures`
   * @throws NumericError on NaN, infinity or values whose squares float32 cannot hold; the sum so far is left as it was
   */
  add(activations: Matrix): void {
    if (activations.cols !== this.inFeatures) {
      throw new ShapeError(
        `activations have ${activations.cols} columns, the accumulator was made for ${this.inFeatures} input features`,
      )
    }
    assertFinite(activations, 'activations')
    assertSquaresFit(activations)
    for (let first = 0; first < activations.rows; first += TOKENS_PER_PANEL) {
      const last = Math.min(first + TOKENS_PER_PANEL, activations.rows)
      this.#addUpper(upperGram(activations, first, last))
    }
    this.#tokens += activations.rows
  }

  /**
   * Adds `X^T X` of a batch of `tokens` rows that was computed elsewhere. Only the upper triangle is read.
   *
   * @throws ShapeError when `gram` is not inFeatures x inFeatures or `tokens` is not a positive integer
   * @throws NumericError on NaN or infinity
   */
  addGram(gram: Matrix, tokens: number): void {
    if (gram.rows !== this.inFeatures || gram.cols !== this.inFeatures) {
      throw new ShapeError(
        `the product X^T X is ${gram.rows} x ${gram.cols}, expected ${this.inFeatures} x ${this.inFeatures}`,
      )
    }
    if (!Number.isSafeInteger(tokens) || tokens < 1) {
      throw new ShapeError(`tokens of a batch must be a positive whole number, got ${tokens}`)
    }
    assertFinite(gram, 'X^T X of the activations')
    this.#addUpper(gram.data)
    this.#tokens += tokens
  }

  #addUpper(gram: Float32Array): void {
    const n = this.inFeatures
    const sums = this.#sums
    const errors = this.#diagonalErrors
    for (let i = 0; i < n; i++) {
      const diagonal = sums[i * n + i] + errors[i] + gram[i * n + i]
      sums[i * n + i] = diagonal
      errors[i] = diagonal - sums[i * n + i]
      for (let j = i + 1; j < n; j++) {
        const upper = i * n + j
        const lower = j * n + i
        const exact = sums[upper] + sums[lower] + gram[upper]
        sums[upper] = exact
        sums[lower] = exact - sums[upper]
      }
    }
  }

  /**
   * The Hessian so far, inFeatures x inFeatures, a new matrix. More batches may follow.
   *
   * @throws NumericError when nothing was added yet, or the sum outgrew float32
   */
  hessian(): Matrix {
    if (this.#tokens === 0) throw new NumericError('no activations were added, so there is no Hessian')
    const n = this.inFeatures
    const factor = 2 / this.#tokens
    const result = matrix(n, n)
    for (let i = 0; i < n; i++) {
      result.data[i * n + i] = (this.#sums[i * n + i] + this.#diagonalErrors[i]) * factor
      for (let j = i + 1; j < n; j++) {
        const value = (this.#sums[i * n + j] + this.#sums[j * n + i]) * factor
        result.data[i * n + j] = value
        result.data[j * n + i] = value
      }
    }
    assertFinite(result, 'Hessian (its sum outgrew float32)')
    return result
  }
}

function assertSquaresFit(activations: Matrix): void {
  const at = activations.data.findIndex((value) => Math.abs(value) > LARGEST_ACTIVATION)
  if (at < 0) return
  throw new NumericError(
    `activations: found ${activations.data[at]} at row ${Math.floor(at / activations.cols)}, column ` +
      `${at % activations.cols}; expected at most ${LARGEST_ACTIVATION}, larger squares outgrow float32. The model or ` +
      'its input is damaged',
  )
}

/** The upper triangle of `X^T X` over rows `first` to `last` of `x`; what lies below is unspecified. */
function upperGram(x: Matrix, first: number, last: number): Float32Array {
  const n = x.cols
  const gram = new Float32Array(n * n)
  kernels().gram(last - first, n, { data: x.data, offset: first * n, stride: n }, wholeBlock(gram, n))
  return gram
}
