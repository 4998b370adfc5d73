import type { Block, ProductForm, ProductKernels } from '../contract.js'
import { jobKinds } from './runtime/job.js'
import { type Pool, runJob } from './runtime/pool.js'
import { copyIn, copyOut, withMemory } from './runtime/stage.js'

/** Values of the inner dimension that are summed in registers before they reach C. */
export const DEPTH = 256
/** Rows of a tile: whole strips. */
const TILE_ROWS = 128
export const TILE_COLUMNS = 256
/** Columns that the packing of B hands out at once. */
const PACKED_COLUMNS = 64
/** Floats of one product that are in the kernels' memory at once; larger products are done by panels. */
const STAGED_VALUES = 2 ** 24

/** Products on `pool`; at most `stagedValues` floats of the operands are in the kernels' memory at once. */
export function productKernels(pool: Pool, stagedValues = STAGED_VALUES): ProductKernels {
  return {
    gemm: (form, m, n, k, alpha, a, b, beta, c) =>
      multiplyByPanels(pool, { form, alpha, a, b, c, isUpper: false }, m, n, k, beta, stagedValues),
    gram: (tokens, n, x, c) =>
      multiplyByPanels(
        pool,
        { form: 'AtB', alpha: 1, a: x, b: x, c, isUpper: true },
        n,
        n,
        tokens,
        0,
        stagedValues,
      ),
  }
}

interface Product {
  readonly form: ProductForm
  readonly alpha: number
  readonly a: Block
  readonly b: Block
  readonly c: Block
  /** Leave out what lies below the diagonal of C. */
  readonly isUpper: boolean
}

/** How much of a product is in the kernels' memory at once. */
interface Panel {
  readonly rows: number
  readonly columns: number
  readonly depth: number
}

/** Halves the largest side until the panels of A, B (also packed) and C fit. */
function planPanel(m: number, n: number, k: number, most: number): Panel {
  let [rows, columns, depth] = [m, n, k]
  const size = () => rows * depth + depth * columns + rows * columns + Math.min(depth, DEPTH) * columns
  while (size() > most) {
    if (depth >= rows && depth >= columns && depth > DEPTH) depth = halved(depth, DEPTH)
    else if (rows >= columns && rows > TILE_ROWS) rows = halved(rows, TILE_ROWS)
    else if (columns > PACKED_COLUMNS) columns = halved(columns, PACKED_COLUMNS)
    else break
  }
  return { rows, columns, depth }
}

/** About half, a multiple of `unit`. Sums stay cut at multiples of DEPTH, so a panel's size does not change them. */
function halved(size: number, unit: number): number {
  return Math.max(unit, Math.floor(size / 2 / unit) * unit)
}

function multiplyByPanels(
  pool: Pool,
  product: Product,
  m: number,
  n: number,
  k: number,
  beta: 0 | 1,
  most: number,
): void {
  const { form, a, b, c, isUpper } = product
  if (k === 0 && beta === 0) {
    for (let i = 0; i < m; i++) c.data.fill(0, c.offset + i * c.stride, c.offset + i * c.stride + n)
  }
  if (m === 0 || n === 0 || k === 0) return
  const { heap } = pool.runtime
  const panel = planPanel(m, n, k, most)
  const { rows, columns, depth } = panel
  const bytes = [rows * depth, depth * columns, rows * columns].map((values) => 4 * values)
  withMemory(heap, bytes, (atA, atB, atC) => {
    for (let left = 0; left < n; left += columns) {
      const width = Math.min(columns, n - left)
      for (let from = 0; from < k; from += depth) {
        const inner = Math.min(depth, k - from)
        if (form === 'ABt') copyIn(heap, b, left, from, width, inner, atB)
        else copyIn(heap, b, from, left, inner, width, atB)
        const adds = beta === 1 || from > 0
        for (let top = 0; top < m; top += rows) {
          const height = Math.min(rows, m - top)
          if (isUpper && top >= left + width) break
          if (form === 'AtB') copyIn(heap, a, from, top, inner, height, atA)
          else copyIn(heap, a, top, from, height, inner, atA)
          if (adds) copyIn(heap, c, top, left, height, width, atC)
          multiplyPanel(
            pool,
            product,
            height,
            width,
            inner,
            atA,
            atB,
            adds,
            atC,
            isUpper ? top - left : NO_DIAGONAL,
          )
          copyOut(heap, atC, c, top, left, height, width)
        }
      }
    }
  })
}

/** So far to the left that no tile lies below it. */
const NO_DIAGONAL = -(2 ** 30)

/** The product of panels in the kernels' memory. `diagonal`: C's first row minus its first column in the whole. */
function multiplyPanel(
  pool: Pool,
  { form, alpha }: Product,
  m: number,
  n: number,
  k: number,
  a: number,
  b: number,
  adds: boolean,
  c: number,
  diagonal: number,
): void {
  const [isATransposed, isBTransposed] = [form === 'AtB', form === 'ABt']
  withMemory(pool.runtime.heap, [packedBytes(n, k)], (packed) => {
    for (let from = 0; from < k; from += DEPTH) {
      multiplySlice(pool, m, n, Math.min(DEPTH, k - from), packed, {
        a: {
          at: a + 4 * (isATransposed ? from * m : from),
          stride: isATransposed ? m : k,
          isTransposed: isATransposed,
        },
        b: {
          at: b + 4 * (isBTransposed ? from : from * n),
          stride: isBTransposed ? k : n,
          isTransposed: isBTransposed,
        },
        c: { at: c, stride: n },
        alpha,
        adds: adds || from > 0,
        diagonal,
      })
    }
  })
}

/** Bytes that a slice of B takes once packed, for an inner dimension of `k`. */
export function packedBytes(n: number, k: number): number {
  return 4 * 8 * Math.ceil(n / 8) * Math.min(DEPTH, k)
}

/** Where the operands of a slice are: addresses in the kernels' memory, strides in floats. */
interface Slice {
  readonly a: { readonly at: number; readonly stride: number; readonly isTransposed?: boolean }
  readonly b: { readonly at: number; readonly stride: number; readonly isTransposed?: boolean }
  readonly c: { readonly at: number; readonly stride: number }
  readonly alpha: number
  readonly adds: boolean
  /** See {@link multiplyPanel}; default: the whole of C. */
  readonly diagonal?: number
}

/**
 * `C = alpha A B` or `C += alpha A B` for C m x n over at most {@link DEPTH} of the inner dimension.
 *
 * @param packed room of {@link packedBytes}
 */
export function multiplySlice(
  pool: Pool,
  m: number,
  n: number,
  depth: number,
  packed: number,
  slice: Slice,
): void {
  const { b } = slice
  const packing = [b.at, b.stride, depth, n, Number(b.isTransposed ?? false), packed]
  runJob(pool, jobKinds.packRight, Math.ceil(n / PACKED_COLUMNS), packing, 0)
  multiplyStrips(pool, m, n, depth, packed, slice)
}

/** As {@link multiplySlice} for a B that is packed already. */
export function multiplyStrips(
  pool: Pool,
  m: number,
  n: number,
  depth: number,
  packed: number,
  { a, c, alpha, adds, diagonal = NO_DIAGONAL }: Omit<Slice, 'b'>,
): void {
  const tiles = Math.ceil(m / TILE_ROWS) * Math.ceil(n / TILE_COLUMNS)
  const params = [
    ...[a.at, a.stride, Number(a.isTransposed ?? false), packed, c.at, c.stride, m, n, depth],
    ...[TILE_ROWS, TILE_COLUMNS, { f32: alpha }, Number(adds), diagonal],
  ]
  runJob(pool, jobKinds.multiplyTile, tiles, params, 512 + 4 * TILE_ROWS * depth)
}
