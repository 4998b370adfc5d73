import type { Block, ProductForm } from '../contract.js'
import type { LibraryProducts } from '../forward-contract.js'
import { threadCount } from '../kernels.js'
import { type BlasPool, multiplyTiles, type Tile } from './blas-pool.js'
import { libraryAttention, type MultiplyAll, type ProductBlocks } from './library-attention.js'

/** Sides of a tile of C. They depend on nothing, so that the bits of a product do not depend on the number of threads. */
const TILE_ROWS = 256
const TILE_COLUMNS = 512

/** Products by the library of `pool`, straight from and to the arrays wherever they are, and attention by them. */
export function blasProducts(pool: BlasPool): LibraryProducts {
  const multiplyAll: MultiplyAll = (form, m, n, k, alpha, blocks) =>
    multiply(pool, form, m, n, k, alpha, blocks, 0, false)
  return {
    gemm: (form, m, n, k, alpha, a, b, beta, c) =>
      multiply(pool, form, m, n, k, alpha, [[a, b, c]], beta, false),
    gram: (tokens, n, x, c) => multiply(pool, 'AtB', n, n, tokens, 1, [[x, x, c]], 0, true),
    attendWith: (kernels) => libraryAttention(multiplyAll, kernels),
  }
}

function multiply(
  pool: BlasPool,
  form: ProductForm,
  m: number,
  n: number,
  k: number,
  alpha: number,
  blocks: ProductBlocks,
  beta: 0 | 1,
  isUpper: boolean,
): void {
  if (m === 0 || n === 0) return
  if (k === 0) {
    if (beta === 0) for (const [, , c] of blocks) clear(c, m, n)
    return
  }
  const [isATransposed, isBTransposed] = [form === 'AtB', form === 'ABt']
  const tiles: Tile[] = []
  for (const [a, b, c] of blocks) {
    const [atA, atB, atC] = [a, b, c].map((block) => addressOf(pool, block))
    for (let top = 0; top < m; top += TILE_ROWS) {
      for (let left = 0; left < n; left += TILE_COLUMNS) {
        const [height, width] = [Math.min(TILE_ROWS, m - top), Math.min(TILE_COLUMNS, n - left)]
        if (isUpper && top >= left + width) continue
        const fromA = atA + 4 * top * (isATransposed ? 1 : a.stride)
        const fromB = atB + 4 * left * (isBTransposed ? b.stride : 1)
        tiles.push([height, width, fromA, fromB, atC + 4 * (top * c.stride + left)])
      }
    }
  }
  const [[a, b, c]] = blocks
  // a single row or column may have any stride, which a library would still check
  const strides = [
    strideOf(a, isATransposed ? m : k),
    strideOf(b, isBTransposed ? k : n),
    strideOf(c, n),
  ] as const
  multiplyTiles(pool, { isATransposed, isBTransposed, k, alpha, beta, strides }, tiles, threadCount())
}

function clear({ data, offset, stride }: Block, m: number, n: number): void {
  for (let i = 0; i < m; i++) data.fill(0, offset + i * stride, offset + i * stride + n)
}

const strideOf = ({ stride }: Block, cols: number) => Math.max(stride, cols)

function addressOf({ library }: BlasPool, { data, offset }: Block): number {
  return Number(library.addressOf(data)) + 4 * offset
}
