/**
 * The hot loops of the library behind one interface. Two implementations: `reference/` (plain TypeScript, the oracle)
 * and `wasm/` (SIMD, threads). Both take ordinary arrays and give the same results up to the rounding stated here.
 */

/** Part of a row-major array: element (i, j) is `data[offset + i * stride + j]`. */
export interface Block {
  readonly data: Float32Array
  readonly offset: number
  readonly stride: number
}

/** A whole row-major array as a block. */
export function wholeBlock(data: Float32Array, stride: number): Block {
  return { data, offset: 0, stride }
}

/** What a block has from a row on. */
export function fromRow(block: Block, row: number): Block {
  return { ...block, offset: block.offset + row * block.stride }
}

/** Which operands of a product are stored transposed: `A B`, `A B^T` or `A^T B`. */
export type ProductForm = 'AB' | 'ABt' | 'AtB'

export interface ProductKernels {
  /**
   * `C = beta C + alpha A B` for C m x n, with the inner dimension k. As stored, A is m x k (k x m in the form 'AtB')
   * and B is k x n (n x k in the form 'ABt'). C must not overlap A or B. With beta 0 what C held does not matter.
   *
   * Each element is off by at most `(k + 8) 2^-24 |alpha| (|A| |B|)_ij` plus the roundings of a sum of `k / 256` terms.
   */
  gemm(
    form: ProductForm,
    m: number,
    n: number,
    k: number,
    alpha: number,
    a: Block,
    b: Block,
    beta: 0 | 1,
    c: Block,
  ): void

  /** The upper triangle of `C = X^T X` for X tokens x n and C n x n; what lies below the diagonal is unspecified. */
  gram(tokens: number, n: number, x: Block, c: Block): void
}

/** Rows of one block of columns and the codebooks that their vectors may choose from. */
export interface ColumnTask {
  readonly rows: number
  /** Columns of the block. */
  readonly width: number
  /** 1, 2 or 4. */
  readonly vectorDim: number
  /** k. */
  readonly centroids: number
  /** Number of the first row in its layer: `rowsPerGroup` consecutive rows of a layer share a codebook. */
  readonly firstRow: number
  readonly rowsPerGroup: number
  /** Row group `g` of the layer has its codebook (k x vectorDim) at `codebookOffset + g * codebookStride`. */
  readonly codebooks: Float32Array
  readonly codebookOffset: number
  readonly codebookStride: number
  /** The index of vector `v` of row `r` is number `indexOffset + r * indexStride + v`. */
  readonly indices: Uint16Array
  readonly indexOffset: number
  readonly indexStride: number
  /** What centroids are multiplied by; undefined: nothing. */
  readonly scales?: TaskScales
}

/** Scales of a block of columns, which starts where a block of weights that share a scale starts. */
export interface TaskScales {
  /** rows x ceil(width / blockSize), positive. */
  readonly values: Block
  /** Consecutive weights of a row that share a scale, a multiple of vectorDim. */
  readonly blockSize: number
}

/** One block of columns on its way from left to right, each vector absorbing the errors of those before it. */
export interface ColumnWalkTask extends ColumnTask {
  /** rows x width, a multiple of vectorDim: the weights before the first of these columns is quantized. */
  readonly work: Block
  /** `U`, width x width. */
  readonly factor: Block
  /** width / vectorDim metrics, each d x d. */
  readonly metrics: Float64Array
  /** Receives rows x width: `(w_P - q_P) U_PP^-1` of every vector. */
  readonly errors: Block
}

/** One block of columns whose indices are looked at again: rows x width, the last vector perhaps narrower than d. */
export interface RefineTask extends ColumnTask {
  /** `(W - Q) H`, rows x width. */
  readonly residual: Block
  /** `H`, width x width. */
  readonly hessian: Block
  /** Receives rows x width: how far each weight moved, `q_new - q_old`. */
  readonly steps: Block
  /** Receives for each row how much its loss changed, 0 or less. */
  readonly changes: Float64Array
}

export interface ColumnKernels {
  /**
   * Quantizes the vectors of a block from left to right: vector `P` gets the centroid nearest under its metric (of
   * equally near ones the lowest), and the columns behind it in the block absorb its error by `w_F -= e_P U_PF`. Writes
   * indices and errors; distances, errors and weights are those of float32 arithmetic. With scales `s`, distances are
   * those of `w_P / s` to the centroids, and `q_P` is the centroid times `s`, rounded to float32.
   */
  quantizeColumns(task: ColumnWalkTask): void

  /**
   * Coordinate descent on `tr((W-Q) H (W-Q)^T)` over the vectors of a block from left to right, for given codebooks: a
   * vector takes the centroid nearest in float32 where that, by the residual as it stands, lowers the loss in float64.
   * Writes indices, steps and changes; the residual is only read.
   *
   * @returns how many indices changed
   */
  refineColumns(task: RefineTask): number
}

/** Vectors to cluster, group by group; all groups are measured by the same metrics. */
export interface ClusterProblem {
  /** Dimensions of a vector. */
  readonly d: number
  /** Centroids of a group. */
  readonly k: number
  /** The vectors of each group, n x d, finite. */
  readonly groups: readonly Float32Array[]
  /** Positive semidefinite, period x d x d; vector `i` of a group is measured by metric `i % period`. */
  readonly metric: Float64Array
  readonly period: number
  /** What the metric of each vector is multiplied by, group by group, from 2^-60 to 1. Default: 1. */
  readonly weights?: readonly Float32Array[]
}

/** The normal equations of the centroids of one group; see {@link Clustering.systems}. */
export interface ClusterSystems {
  /** Vectors of each cluster. */
  readonly counts: Float64Array
  /** `sum M_i`, k x d x d. A power of two may be left off here and in `sums`. */
  readonly weights: Float64Array
  /** `sum M_i x_i`, k x d. */
  readonly sums: Float64Array
}

/**
 * The steps of k-means on many groups at once. A step works on the groups whose `active` byte is not 0 (at first all)
 * and leaves what belongs to the others alone. Results do not depend on what other groups there are.
 *
 * `reference` works in float64. `baseline` and `relaxed` search in float32 after centring and scaling each group, so a
 * centroid they take for the nearest is off by at most some `2^-22` of the largest `(x - m)^T M (x - m)` of vectors and
 * centroids, `m` being the group's mean (in one dimension the nearest is found whatever the metric); distances are off
 * by `2^-21` of their own size for a diagonal metric.
 */
export interface Clustering {
  readonly active: Uint8Array
  /** Sum of the distances of each group's vectors to their centroids. */
  readonly losses: Float64Array
  /** How many assignments the last {@link assign} changed, per group. */
  readonly changed: Uint32Array
  /** Clusters without vectors at the last {@link move}, per group. */
  readonly empty: Uint32Array
  /** Clusters that {@link move} could not solve safely, per group. */
  readonly unsolved: Uint32Array
  /** Index of each vector's centroid; may be written. */
  assignments(group: number): Uint16Array
  /** Distance of each vector to its centroid. A copy. */
  distances(group: number): Float64Array
  /** The centroids of a group, k x d. A copy. */
  codebook(group: number): Float32Array
  /** What the last {@link move} solved. */
  systems(group: number): ClusterSystems
  setCentroid(group: number, index: number, centroid: ArrayLike<number>): void
  /** Puts a centroid onto a vector of its group. */
  placeSeed(group: number, index: number, vector: number): void
  /**
   * Puts centroid `index` of each group onto a vector drawn with probability proportional to its distance to the
   * nearest centroid before, uniformly where all are 0. To be called for 1, 2, ... in turn.
   *
   * @param uniforms a number in [0, 1) per group
   */
  drawSeeds(index: number, uniforms: Float64Array): void
  /** Finds each vector's nearest centroid, the lowest index of equally near ones, and the losses. */
  assign(): void
  /**
   * Moves each centroid to the minimum of its vectors' distances, `(sum M_i)^-1 sum M_i x_i`. A group with empty clusters
   * keeps all its centroids, with `keepsEmpty` those of its empty clusters; so do clusters without a safe solution.
   */
  move(keepsEmpty: boolean): void
  /** Frees the memory. Nothing may be called after. */
  close(): void
}

export interface ClusterKernels {
  /** Memory: about `8 d + 6` bytes per vector, `12 d + 16` with large codebooks, 4 more with weights; copies are made. */
  openClustering(problem: ClusterProblem): Clustering
}

/** The kernels that {@link kernels} returns: one of two implementations. */
export interface Kernels extends ProductKernels, ColumnKernels, ClusterKernels {
  readonly name: KernelName
}

/** `reference`: plain TypeScript, one thread. `baseline`: SIMD. `relaxed`: SIMD with fused multiply-adds. */
export type KernelName = 'reference' | 'baseline' | 'relaxed'
