import type { Block, ProductForm, ProductKernels } from '../contract.js'
import { threadCount } from '../kernels.js'
import { type BlasPool, multiplyTiles, type Tile } from './blas-pool.js'

/** Sides of a tile of C. They depend on nothing, so that the bits of a product do not depend on the number of threads. */
const TILE_ROWS = 256
const TILE_COLUMNS = 512

/** Products by the library of `pool`, straight from and to the arrays wherever they are. */
export function blasProducts(pool: BlasPool): ProductKernels {
  return {
    gemm: (form, m, n, k, alpha, a, b, beta, c) => multiply(pool, form, m, n, k, alpha, a, b, beta, c, false),
    gram: (tokens, n, x, c) => multiply(pool, 'AtB', n, n, tokens, 1, x, x, 0, c, true),
  }
}

function multiply(
  pool: BlasPool,
  form: ProductForm,
  m: number,
  n: number,
  k: number,
  alpha: number,
  a: Block,
  b: Block,
  beta: 0 | 1,
  c: Block,
  isUpper: boolean,
): void {
  if (m === 0 || n === 0) return
  if (k === 0) {
    if (beta === 0)
      for (let i = 0; i < m; i++) c.data.fill(0, c.offset + i * c.stride, c.offset + i * c.stride + n)
    return
  }
  const [isATransposed, isBTransposed] = [form === 'AtB', form === 'ABt']
  const [atA, atB, atC] = [a, b, c].map((block) => addressOf(pool, block))
  const tiles: Tile[] = []
  for (let top = 0; top < m; top += TILE_ROWS) {
    for (let left = 0; left < n; left += TILE_COLUMNS) {
      const [height, width] = [Math.min(TILE_ROWS, m - top), Math.min(TILE_COLUMNS, n - left)]
      if (isUpper && top >= left + width) continue
      const fromA = atA + 4 * top * (isATransposed ? 1 : a.stride)
      const fromB = atB + 4 * left * (isBTransposed ? b.stride : 1)
      tiles.push([height, width, fromA, fromB, atC + 4 * (top * c.stride + left)])
    }
  }
  // a single row or column may have any stride, which a library would still check
  const strides = [
    strideOf(a, isATransposed ? m : k),
    strideOf(b, isBTransposed ? k : n),
    strideOf(c, n),
  ] as const
  multiplyTiles(pool, { isATransposed, isBTransposed, k, alpha, beta, strides }, tiles, threadCount())
}

const strideOf = ({ stride }: Block, cols: number) => Math.max(stride, cols)

function addressOf({ library }: BlasPool, { data, offset }: Block): number {
  return Number(library.addressOf(data)) + 4 * offset
}
