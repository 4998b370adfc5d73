import type { Block, ProductKernels } from '../contract.js'
import { DEPTH, multiplySlice, packedBytes, TILE_COLUMNS } from './product.js'
import { jobKinds } from './runtime/job.js'
import { type Pool, runJob } from './runtime/pool.js'
import { type Place, placeOfBlock, type ResidentArrays } from './runtime/resident.js'
import { copyIn, withMemory } from './runtime/stage.js'

/** Up to so many rows of A, `A B^T` is done without packing B first. */
const FEW_ROWS = 16
/** Floats of B, where it is not in the kernels' memory, that are copied there at once; the fewer rows, the fewer. */
const COPIED_VALUES = 2 ** 22
const COPIED_VALUES_FEW = 2 ** 20
/** Rows of B of a tile for few rows of A: whole strips of `assembly/few-rows.ts`. */
const FEW_TILE = 32

/**
 * Products `A B` and `A B^T` that leave A and C where they are, if both are in the kernels' memory, and B too if it is
 * there; all others are `copying`'s. The bits are the same.
 */
export function inPlaceProducts(
  pool: Pool,
  arrays: ResidentArrays,
  copying: ProductKernels,
): Pick<ProductKernels, 'gemm'> {
  const { heap } = pool.runtime
  const placeOf = (block: Block): Place => placeOfBlock(arrays, block)

  /** Runs `use` with where rows `first` to `first + rows - 1` of B, of `cols` values each, are. */
  const withRows = (b: Block, first: number, rows: number, cols: number, use: (place: Place) => void) => {
    if (arrays.has(b.data)) return use(moved(placeOf(b), first, 0))
    withMemory(heap, [4 * rows * cols], (at) => {
      copyIn(heap, b, first, 0, rows, cols, at)
      use({ at, stride: cols })
    })
  }

  return {
    gemm(form, m, n, k, alpha, a, b, beta, c) {
      const isInPlace = form !== 'AtB' && arrays.has(a.data) && arrays.has(c.data)
      if (!isInPlace || m * n * k === 0) return copying.gemm(form, m, n, k, alpha, a, b, beta, c)
      const [left, sums] = [placeOf(a), placeOf(c)]
      if (form === 'AB') {
        withMemory(heap, [packedBytes(n, k)], (packed) => {
          for (let from = 0; from < k; from += DEPTH) {
            const depth = Math.min(DEPTH, k - from)
            withRows(b, from, depth, n, (right) => {
              const adds = beta === 1 || from > 0
              multiplySlice(pool, m, n, depth, packed, {
                a: moved(left, 0, from),
                b: right,
                c: sums,
                alpha,
                adds,
              })
            })
          }
        })
        return
      }
      const isFew = m <= FEW_ROWS
      const most = isFew ? COPIED_VALUES_FEW : COPIED_VALUES
      const width = arrays.has(b.data) ? n : Math.min(n, roundedUp(most / k, isFew ? FEW_TILE : TILE_COLUMNS))
      for (let first = 0; first < n; first += width) {
        const rows = Math.min(width, n - first)
        withRows(b, first, rows, k, (right) => {
          const target = moved(sums, 0, first)
          if (isFew) multiplyFewRows(pool, m, rows, k, alpha, left, right, beta, target)
          else multiplyTransposed(pool, m, rows, k, alpha, left, right, beta, target)
        })
      }
    },
  }
}

const roundedUp = (count: number, unit: number) => Math.max(1, Math.ceil(count / unit)) * unit

function moved({ at, stride }: Place, rows: number, columns: number): Place {
  return { at: at + 4 * (rows * stride + columns), stride }
}

/** `C = beta C + alpha A B^T` for at most {@link FEW_ROWS} rows of A. */
function multiplyFewRows(
  pool: Pool,
  m: number,
  n: number,
  k: number,
  alpha: number,
  a: Place,
  b: Place,
  beta: 0 | 1,
  c: Place,
): void {
  const places = [a, b, c].flatMap(({ at, stride }) => [at, stride])
  const params = [...places, m, n, k, FEW_TILE, DEPTH, { f32: alpha }, beta]
  const scratch = m === 1 ? 0 : 4 * (4 * Math.ceil(m / 4) * k + 8 * DEPTH + 32)
  runJob(pool, jobKinds.multiplyFewTile, Math.ceil(n / FEW_TILE), params, scratch)
}

/** `C = beta C + alpha A B^T` by packed slices of B. */
function multiplyTransposed(
  pool: Pool,
  m: number,
  n: number,
  k: number,
  alpha: number,
  a: Place,
  b: Place,
  beta: 0 | 1,
  c: Place,
): void {
  withMemory(pool.runtime.heap, [packedBytes(n, k)], (packed) => {
    for (let from = 0; from < k; from += DEPTH) {
      multiplySlice(pool, m, n, Math.min(DEPTH, k - from), packed, {
        a: moved(a, 0, from),
        b: { ...moved(b, 0, from), isTransposed: true },
        c,
        alpha,
        adds: beta === 1 || from > 0,
      })
    }
  })
}
