import type { ProductKernels } from './contract.js'
import type { PackedKernels } from './packed-contract.js'

/** What comes between two products, element by element: `gelu` by the error function, `gelu-tanh` by its approximation. */
export type ElementActivation = 'silu' | 'gelu' | 'gelu-tanh' | 'relu'

/** Values as codes of 8 bits: each is its code times the scale of its run of `headDim` values. */
export interface Int8Rows {
  /** In the memory of an array of {@link ForwardKernels.allocate}. */
  readonly codes: Int8Array
  /** One for each run; of {@link ForwardKernels.allocate}. */
  readonly scales: Float32Array
}

/** Keys or values that attention reads. */
export type HeldRows = Float32Array | Int8Rows

/** Causal attention of the last `length` positions of `sequences` sequences. */
export interface AttentionTask {
  readonly sequences: number
  /** Positions of each sequence that ask. */
  readonly length: number
  /** The position of the first of them: keys and values of all positions before it are there too. */
  readonly position: number
  /** Positions there is room for in `keys` and `values`, at least `position + length`. */
  readonly capacity: number
  readonly heads: number
  /** Divides `heads`: query head `h` reads key-value head `floor(h * kvHeads / heads)`. */
  readonly kvHeads: number
  readonly headDim: number
  /** What scores are multiplied by. */
  readonly scale: number
  /** Then they become `cap tanh(score / cap)`; undefined: they stay. */
  readonly softCap: number | undefined
  /** A position sees itself and the `window - 1` positions before it; undefined: all before it. */
  readonly window: number | undefined
  /** sequences x length x (heads * headDim), of {@link ForwardKernels.allocate} like the next three. */
  readonly queries: Float32Array
  /** sequences x capacity x (kvHeads * headDim). */
  readonly keys: HeldRows
  /** sequences x capacity x (kvHeads * headDim). */
  readonly values: HeldRows
  /** Receives sequences x length x (heads * headDim). */
  readonly output: Float32Array
}

/** Norms of runs of `size` values, several of which may make a row. */
export interface NormTask {
  /** Runs in all. */
  readonly runs: number
  readonly size: number
  /** `'layer'`: the mean of a run is subtracted first. */
  readonly kind: 'rms' | 'layer'
  readonly epsilon: number
  /** An ordinary array, a whole number of runs long: run `i` is multiplied by its run `i mod (scale.length / size)`. */
  readonly scale: Float32Array
  /** An ordinary array as long as `scale`: is added at the end. */
  readonly shift: Float32Array | undefined
  /** runs x size. */
  readonly x: Float32Array
  /** runs x size, may be `x`. */
  readonly y: Float32Array
}

/** Rotary turns of the heads of some tokens. */
export interface RotateTask {
  readonly sequences: number
  readonly length: number
  /** The position of each sequence's first token. */
  readonly position: number
  readonly heads: number
  readonly headDim: number
  /** Even, at most headDim: value `i` of a head, below dims / 2, is paired with value `i + dims / 2`; others stay. */
  readonly dims: number
  /** Ordinary arrays, at least (position + length) x dims; the second half of a row repeats the first. */
  readonly cos: Float32Array
  readonly sin: Float32Array
  /** tokens x (heads * headDim). */
  readonly x: Float32Array
  /** The same, may be `x`. */
  readonly y: Float32Array
}

/** Scores of attention, to become the shares of the values in place. */
export interface SharesTask {
  /** rows x stride, some queries of one head after those of another. */
  readonly scores: Float32Array
  readonly rows: number
  /** Floats of a row, a multiple of 4, not less than the keys that its last query sees; those behind the keys are ignored. */
  readonly stride: number
  /** Queries of a head. */
  readonly queries: number
  /** The place of the first query among the keys: none behind it is seen. */
  readonly own: number
  /** Keys that a query sees at most, the last of them its own; undefined: all before it. */
  readonly window: number | undefined
  readonly softCap: number | undefined
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
 * `gemm` is that of the other kernels, bit for bit, for arrays of any kind; in the forms 'AB' and 'ABt' it reads A and writes
 * C in place where both are such arrays, and B too where that is one.
 */
export interface ForwardKernels extends Pick<ProductKernels, 'gemm'>, PackedKernels {
  /** An array of float32 whose content is unspecified; memory is taken until {@link release}. */
  allocate(length: number): Float32Array
  /** Gives back what {@link allocate} made; the array must not be used any more. */
  release(array: Float32Array): void

  /** `y = (x - m) / sqrt(mean((x - m)^2) + epsilon) * scale + shift` of each run, within 2^-21 of the largest |y|. */
  normalize(task: NormTask): void

  rotate(task: RotateTask): void

  /**
   * `softmax(scores) V` of each head, in float32. A value that is not finite may reach queries up to 7 positions before
   * it, and up to 10 positions behind those that see it, as 0 times that value.
   */
  attend(task: AttentionTask): void

  /** Scores become the shares that values have in the output: softmax over what each query sees, 0 elsewhere; in float32. */
  shareAttention(task: SharesTask): void

  /** `y = activation(x)`, within 2^-20 of the larger of |y| and 2^-10 |x|; `y` may be `x`. */
  activate(activation: ElementActivation, x: Float32Array, y: Float32Array): void

  /** `y = activation(gate) * up`, as precise; `y` may be `gate` or `up`. */
  gate(activation: ElementActivation, gate: Float32Array, up: Float32Array, y: Float32Array): void

  /**
   * `Y = X W^T` with W in bfloat16, within 2^-20 of `|X| |W|^T`.
   *
   * @param x m x k
   * @param w n x k, bits; in the memory of an array of {@link allocate}
   * @param y m x n
   */
  multiplyBfloats(m: number, n: number, k: number, x: Float32Array, w: Uint16Array, y: Float32Array): void

  /** `y = x + factor * added`; `y` may be either of them. */
  add(x: Float32Array, added: Float32Array, factor: number, y: Float32Array): void

  /** `y = cap tanh(x / cap)`, within 2^-20 of cap; `y` may be `x`. */
  softCap(x: Float32Array, cap: number, y: Float32Array): void

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

  /**
   * `sum(share * logit)` of each row, in float64 within `cols 2^-53` of the sum of the magnitudes.
   *
   * @param shares rows x cols
   * @param logits rows x cols
   */
  weigh(rows: number, cols: number, shares: Float32Array, logits: Float32Array): Float64Array
}

/** Products of a library, which take the place of the kernels' own, and attention by them. */
export interface LibraryProducts extends ProductKernels {
  /** The {@link ForwardKernels.attend} of `kernels`, with its products by the library where that is faster. */
  attendWith(kernels: ForwardKernels): ForwardKernels['attend']
}
