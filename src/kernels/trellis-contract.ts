import type { Block, ColumnWalkTask, Kernels, RefineTask } from './contract.js'

/**
 * Trellis codes. Down a column of vectors, the centroid of a row is named by the last `stateBits` bits of the stream of
 * indices so far: `key_r = (index_r + 2^indexBits key_(r-1)) mod 2^stateBits`. Before the first row of a path all bits
 * are 0. So a key says its index (its low bits), and all but the low `indexBits` bits of it are the low bits of the key
 * of the row above. Where `indexBits = stateBits`, keys are free and the code is a plain codebook.
 */
export interface TrellisShape {
  /** w: bits of an index, 1 to `stateBits`. */
  readonly indexBits: number
  /** L: bits of a key, at most 16. A codebook has `2^L` centroids. */
  readonly stateBits: number
}

/** One column of vectors, all measured by one metric, whose keys are to be found. */
export interface TrellisTask extends TrellisShape {
  readonly rows: number
  /** A path starts anew every so many rows; 0: at the first row only. */
  readonly rowsPerStart: number
  /** 1, 2 or 4. */
  readonly vectorDim: number
  /** rows x vectorDim. */
  readonly targets: Block
  /** rows x 1, positive: what centroids are multiplied by. Undefined: nothing. */
  readonly scales?: Block
  /** Positive semidefinite, vectorDim x vectorDim. */
  readonly metric: Float64Array
  /** 2^stateBits x vectorDim. */
  readonly centroids: Float32Array
  /** Receives the key of row `r` at `keyOffset + r * keyStride`. */
  readonly keys: Uint16Array
  readonly keyOffset: number
  readonly keyStride: number
}

/** What each column of vectors of a block has of its own. */
export interface TrellisColumns {
  /** L, see {@link TrellisShape}; `centroids` is `2^stateBits`. */
  readonly stateBits: number
  /** w of each column of vectors. */
  readonly widths: Uint8Array
  /** What centroids are multiplied by in each column of vectors, before the scale; the product must be exact in float32. */
  readonly factors: Float32Array
}

/**
 * A column walk whose vectors are coded by a trellis. Here `centroids` is `2^stateBits`, `indices` are keys, and
 * `firstRow` is the first of its row group; a path starts anew at every row group.
 */
export interface TrellisWalkTask extends ColumnWalkTask, TrellisColumns {}

/** A refinement of keys; what `indices`, `centroids` and `firstRow` are, as in {@link TrellisWalkTask}. */
export interface TrellisRefineTask extends RefineTask, TrellisColumns {}

/**
 * Searches for the best keys by the Viterbi algorithm. They are exact but for rounding: the reference compares sums of
 * distances in float64, fast kernels may in float32. Of equally good keys before a row, and of equally good last keys,
 * the lowest is taken. Results do not depend on the number of threads.
 */
export interface TrellisKernels {
  /**
   * Finds for each task the keys of least `sum_r (t_r - s_r c_key)^T M (t_r - s_r c_key)`. Tasks are independent; none
   * may read what another writes.
   *
   * @returns that sum for each task
   */
  searchTrellis(tasks: readonly TrellisTask[]): Float64Array

  /**
   * As `quantizeColumns`: the vectors of a block from left to right; in each row group, those of one column take the keys
   * of least distance in sum, then the columns behind absorb their errors by `w_F -= e_P U_PF`. Writes keys and errors.
   * `q_P` is the centroid times factor and scale, rounded to float32.
   */
  quantizeTrellis(task: TrellisWalkTask): void

  /**
   * As `refineColumns`: coordinate descent on `tr((W-Q) H (W-Q)^T)` over columns of vectors from left to right. In each
   * row group, those of one column take the keys of least loss, all else fixed, where that, by the residual as it stands,
   * lowers the loss in float64. Writes keys, steps and changes; the residual is only read. The last vector of a row may
   * be narrower than `vectorDim`. A row's own change may be above 0, the sum over a row group is not.
   *
   * @returns how many keys changed
   */
  refineTrellis(task: TrellisRefineTask): number
}

/** All kernels that quantize layers. */
export interface LayerKernels extends Kernels, TrellisKernels {}
