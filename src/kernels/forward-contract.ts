import type { ProductKernels } from './contract.js'

/** Attention over `sequences` of `length` tokens each; all arrays row-major, a row per token, sequence after sequence. */
export interface AttentionTask {
  readonly sequences: number
  readonly length: number
  readonly heads: number
  /** Divides `heads`: query head `h` reads key-value head `floor(h * kvHeads / heads)`. */
  readonly kvHeads: number
  /** Even. */
  readonly headDim: number
  /** A position sees itself and the `window - 1` positions before it; undefined: all before it. */
  readonly window: number | undefined
  /** Of the rotary angles, at least length x headDim; the second half of a row repeats the first. */
  readonly cos: Float32Array
  readonly sin: Float32Array
  /** tokens x (heads * headDim), of {@link ForwardKernels.allocate} like the next three. */
  readonly queries: Float32Array
  /** tokens x (kvHeads * headDim). */
  readonly keys: Float32Array
  /** tokens x (kvHeads * headDim). */
  readonly values: Float32Array
  /** Receives tokens x (heads * headDim). */
  readonly output: Float32Array
}

/** What a row of logits predicts. */
export interface Predictions {
  /** `sum(exp(logit - largest))` of each row; NaN where a logit is NaN or infinite. */
  readonly sums: Float64Array
  /** The token with the largest logit, the first of several; -1 where a logit is NaN or infinite. */
  readonly tops: Int32Array
}

/**
 * What the forward pass of a model does between its products, on arrays that the kernels reach without copies: those that
 * {@link ForwardKernels.allocate} made. NaN and infinity go through: what is computed from them is not finite.
 *
 * `gemm` is that of the other kernels, bit for bit, for arrays of any kind; in the form 'AB' it reads A and writes C in
 * place where both are such arrays.
 */
export interface ForwardKernels extends Pick<ProductKernels, 'gemm'> {
  /** An array of float32 whose content is unspecified; memory is taken until {@link release}. */
  allocate(length: number): Float32Array
  /** Gives back what {@link allocate} made; the array must not be used any more. */
  release(array: Float32Array): void

  /**
   * `y = x / sqrt(mean(x^2) + epsilon) * scale` of each row, within 2^-22 of itself.
   *
   * @param x rows x cols
   * @param scale cols; an ordinary array
   * @param y rows x cols, may be `x`
   */
  normalizeRows(
    rows: number,
    cols: number,
    x: Float32Array,
    scale: Float32Array,
    epsilon: number,
    y: Float32Array,
  ): void

  /**
   * Causal attention of queries and keys after their rotary turns: `softmax(Q K^T / sqrt(headDim)) V` of each head, in
   * float32. A value that is not finite may reach queries up to 7 positions before it, as 0 times that value.
   */
  attend(task: AttentionTask): void

  /** `y = gate / (1 + exp(-gate)) * up`, element by element, within 2^-20 of itself; `y` may be `gate` or `up`. */
  gate(gate: Float32Array, up: Float32Array, y: Float32Array): void

  /** In float64, within 2^-40. `logits` rows x cols. */
  predict(rows: number, cols: number, logits: Float32Array): Predictions

  /**
   * `sum(p (expected - actual))` of each row, `p = exp(expected - logSum)`, in float64 within 2^-40 of the sum of the
   * magnitudes: with the difference of the logarithmic sums that is the KL divergence.
   *
   * @param expected rows x cols
   * @param actual rows x cols
   * @param logSums `log(sum(exp(expected)))` of each row
   */
  compare(
    rows: number,
    cols: number,
    expected: Float32Array,
    actual: Float32Array,
    logSums: Float64Array,
  ): Float64Array
}
