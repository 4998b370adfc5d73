import { NumericError, ShapeError } from '../common/errors.js'
import { assertFinite, type Matrix, matrix, reusedRoom } from '../common/matrix.js'
import { wholeBlock } from '../kernels/contract.js'
import { kernels } from '../kernels/kernels.js'

/** Sums of {@link driftAccumulator}. */
export interface DriftAccumulator {
  /** Tokens seen so far. */
  readonly tokens: number
  /**
   * Adds a batch of tokens.
   *
   * @param full tokens x outer, what the full model has
   * @param present tokens x outer, what the quantized model has in its place
   * @param inputs tokens x inner, the inputs of the layer in the quantized model
   * @throws ShapeError, NumericError
   */
  add(full: Matrix, present: Matrix, inputs: Matrix): void
  /**
   * Adds the sum that another accumulator of these features has of other tokens.
   *
   * @param sum its `sum`, outer x inner
   * @throws ShapeError
   */
  addSum(sum: Matrix, tokens: number): void
  /** `(full - present)^T inputs` so far, outer x inner: the accumulator's own, not a copy. */
  readonly sum: Matrix
  /**
   * `(2 / tokens) (full - present)^T inputs`, outer x inner, a new matrix.
   *
   * @throws NumericError when nothing was added yet, or the sum outgrew float32
   */
  drift(): Matrix
}

/**
 * Sums how far activations of the quantized model are from those of the full model, against a layer's inputs. The
 * difference is taken before the product, so that a small drift does not drown in the rounding of a large Hessian.
 */
export function driftAccumulator(outer: number, inner: number): DriftAccumulator {
  const sums = matrix(outer, inner)
  let tokens = 0
  const room = reusedRoom()
  return {
    get tokens() {
      return tokens
    },
    add(full, present, inputs) {
      const rows = full.rows
      if (full.cols !== outer || present.cols !== outer || inputs.cols !== inner) {
        throw new ShapeError(
          `a drift of ${outer} against ${inner} features was given ${full.cols}, ${present.cols} and ${inputs.cols} columns`,
        )
      }
      if (present.rows !== rows || inputs.rows !== rows) {
        throw new ShapeError(
          `a drift needs the same tokens thrice, was given ${rows}, ${present.rows} and ${inputs.rows}`,
        )
      }
      const difference = room(full.data.length)
      subtract(full.data, present.data, difference)
      const left = wholeBlock(difference, outer)
      kernels().gemm(
        'AtB',
        outer,
        inner,
        rows,
        1,
        left,
        wholeBlock(inputs.data, inner),
        1,
        wholeBlock(sums.data, inner),
      )
      tokens += rows
    },
    addSum(sum, count) {
      if (sum.rows !== outer || sum.cols !== inner) {
        throw new ShapeError(
          `a drift of ${outer} against ${inner} features was given a sum of ${sum.rows} x ${sum.cols}`,
        )
      }
      for (let i = 0; i < sums.data.length; i++) sums.data[i] += sum.data[i]
      tokens += count
    },
    sum: sums,
    drift() {
      if (tokens === 0) throw new NumericError('no activations were added, so there is no drift')
      const result = matrix(outer, inner, sums.data.slice())
      for (let i = 0; i < result.data.length; i++) result.data[i] *= 2 / tokens
      assertFinite(result, 'drift of the activations')
      return result
    },
  }
}

function subtract(a: Float32Array, b: Float32Array, difference: Float32Array): void {
  for (let i = 0; i < a.length; i++) difference[i] = a[i] - b[i]
}
