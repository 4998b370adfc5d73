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

/** The kernels that {@link kernels} returns: one of two implementations. */
export interface Kernels extends ProductKernels {
  readonly name: KernelName
}

/** `reference`: plain TypeScript, one thread. `baseline`: SIMD. `relaxed`: SIMD with fused multiply-adds. */
export type KernelName = 'reference' | 'baseline' | 'relaxed'
