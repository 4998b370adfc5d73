import { NumericError, ShapeError } from '../common/errors.js'
import { assertFinite, type Matrix, matrix, requireMatrix } from '../common/matrix.js'
import { shownValue } from '../common/shown-value.js'
import { wholeBlock } from '../kernels/contract.js'
import { kernels } from '../kernels/kernels.js'

/** Tokens whose products are summed in float32; what panels give is summed with its rounding errors. */
const TOKENS_PER_PANEL = 2048

/** Side of the squares in which the sums and, across the diagonal, their rounding errors are walked. */
const TILE = 64

/** The squares of a panel's values add up to less than the largest float32. */
const LARGEST_ACTIVATION = 1e18

/**
 * Sums `X^T X` over batches of a layer's inputs and gives the Hessian `H = (2 / tokens) X^T X`, inputs x inputs.
 *
 * Storage is one float32 matrix of inFeatures x inFeatures: the upper triangle holds the sum, the lower triangle the
 * rounding error of that sum, so that thousands of batches lose no precision.
 */
export class HessianAccumulator {
  /** Inputs of the layer: columns of its weight. */
  readonly inFeatures: number
  readonly #sums: Float32Array
  readonly #diagonalErrors: Float32Array
  readonly #rowStart = (row: number) => row * this.inFeatures
  /** What a panel of tokens adds; given back once the sum is read. */
  #panel: Float32Array | undefined
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
    requireMatrix(activations, 'activations')
    if (activations.cols !== this.inFeatures) {
      throw new ShapeError(
        `activations have ${activations.cols} columns, the accumulator was made for ${this.inFeatures} input features`,
      )
    }
    assertSquaresFit(activations)
    for (let first = 0; first < activations.rows; first += TOKENS_PER_PANEL) {
      const last = Math.min(first + TOKENS_PER_PANEL, activations.rows)
      this.#panel ??= new Float32Array(this.inFeatures ** 2)
      writeUpperGram(activations, first, last, this.#panel)
      this.#addUpper(this.#panel, this.#rowStart)
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
    requireMatrix(gram, 'the product X^T X')
    if (gram.rows !== this.inFeatures || gram.cols !== this.inFeatures) {
      throw new ShapeError(
        `the product X^T X is ${gram.rows} x ${gram.cols}, expected ${this.inFeatures} x ${this.inFeatures}`,
      )
    }
    requireTokens(tokens)
    assertFinite(gram, 'X^T X of the activations')
    this.#addUpper(gram.data, this.#rowStart)
    this.#tokens += tokens
  }

  /**
   * Adds the sum that another accumulator of as many features has of other tokens, see {@link upperSum}.
   *
   * @throws ShapeError when it has another length, or `tokens` is not a positive integer
   * @throws NumericError on NaN or infinity
   */
  addUpperSum(sum: Float32Array, tokens: number): void {
    const n = this.inFeatures
    if (!(sum instanceof Float32Array) || sum.length !== (n * (n + 1)) / 2) {
      throw new ShapeError(
        `the upper triangle of X^T X has ${sum?.length} values, expected ${(n * (n + 1)) / 2} for ${n} input features`,
      )
    }
    requireTokens(tokens)
    assertFinite(matrix(1, sum.length, sum), 'X^T X of the activations')
    this.#addUpper(sum, (row) => (row * (2 * n - row - 1)) / 2)
    this.#tokens += tokens
  }

  /**
   * The upper triangle of `X^T X` so far, diagonal included, row after row, in float32: for {@link addUpperSum} of an
   * accumulator elsewhere. n (n + 1) / 2 values, a new array.
   */
  upperSum(): Float32Array {
    this.#panel = undefined
    const n = this.inFeatures
    const sums = this.#sums
    const result = new Float32Array((n * (n + 1)) / 2)
    for (let i = 0; i < n; i++) {
      result[(i * (2 * n - i + 1)) / 2] = sums[i * n + i] + this.#diagonalErrors[i]
    }
    forEachUpperRun(n, (row, column, length) => {
      let to = (row * (2 * n - row - 1)) / 2 + column
      for (let j = column; j < column + length; j++, to++) result[to] = sums[row * n + j] + sums[j * n + row]
    })
    return result
  }

  /** @param rowStart where element (i, j) of the upper triangle lies in `gram`, less j */
  #addUpper(gram: Float32Array, rowStart: (row: number) => number): void {
    const n = this.inFeatures
    const sums = this.#sums
    const errors = this.#diagonalErrors
    for (let i = 0; i < n; i++) {
      const diagonal = sums[i * n + i] + errors[i] + gram[rowStart(i) + i]
      sums[i * n + i] = diagonal
      errors[i] = diagonal - sums[i * n + i]
    }
    forEachUpperRun(n, (row, column, length) => {
      let [upper, lower, from] = [row * n + column, column * n + row, rowStart(row) + column]
      for (let j = 0; j < length; j++, upper++, from++, lower += n) {
        const exact = sums[upper] + sums[lower] + gram[from]
        sums[upper] = exact
        sums[lower] = exact - sums[upper]
      }
    })
  }

  /**
   * The Hessian so far, inFeatures x inFeatures, a new matrix. More batches may follow.
   *
   * @throws NumericError when nothing was added yet, or the sum outgrew float32
   */
  hessian(): Matrix {
    if (this.#tokens === 0) throw new NumericError('no activations were added, so there is no Hessian')
    this.#panel = undefined
    const n = this.inFeatures
    const factor = 2 / this.#tokens
    const result = matrix(n, n)
    for (let i = 0; i < n; i++) {
      result.data[i * n + i] = (this.#sums[i * n + i] + this.#diagonalErrors[i]) * factor
    }
    const sums = this.#sums
    forEachUpperRun(n, (row, column, length) => {
      let [upper, lower] = [row * n + column, column * n + row]
      for (let j = 0; j < length; j++, upper++, lower += n) {
        const value = (sums[upper] + sums[lower]) * factor
        result.data[upper] = value
        result.data[lower] = value
      }
    })
    assertFinite(result, 'Hessian (its sum outgrew float32)')
    return result
  }
}

function requireTokens(tokens: number): void {
  if (Number.isSafeInteger(tokens) && tokens > 0) return
  throw new ShapeError(`tokens of a batch must be a positive whole number, got ${shownValue(tokens)}`)
}

/**
 * Walks an n x n matrix above its diagonal, tile by tile so that both triangles stay in the cache: runs of `length`
 * elements of a row from a column on.
 */
function forEachUpperRun(n: number, visit: (row: number, column: number, length: number) => void): void {
  for (let top = 0; top < n; top += TILE) {
    for (let left = top; left < n; left += TILE) {
      const right = Math.min(left + TILE, n)
      for (let i = top; i < Math.min(top + TILE, n); i++) {
        const first = Math.max(left, i + 1)
        if (first < right) visit(i, first, right - first)
      }
    }
  }
}

function assertSquaresFit(activations: Matrix): void {
  const { data, cols } = activations
  const { abs } = Math
  let at = 0
  // four at a time as long as even their sum fits; comparisons are false for NaN too
  while (abs(data[at]) + abs(data[at + 1]) + abs(data[at + 2]) + abs(data[at + 3]) <= LARGEST_ACTIVATION)
    at += 4
  while (at < data.length && Math.abs(data[at]) <= LARGEST_ACTIVATION) at++
  if (at === data.length) return
  assertFinite(activations, 'activations')
  throw new NumericError(
    `activations: found ${data[at]} at row ${Math.floor(at / cols)}, column ${at % cols}; expected at most ` +
      `${LARGEST_ACTIVATION}, larger squares outgrow float32. The model or its input is damaged`,
  )
}

/** The upper triangle of `X^T X` over rows `first` to `last` of `x`; what lies below is unspecified. */
function writeUpperGram(x: Matrix, first: number, last: number, gram: Float32Array): void {
  const n = x.cols
  kernels().gram(last - first, n, { data: x.data, offset: first * n, stride: n }, wholeBlock(gram, n))
}
