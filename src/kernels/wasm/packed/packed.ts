import { ShapeError } from '../../../common/errors.js'
import type { Block } from '../../contract.js'
import {
  FEW_ROUNDED,
  type PackedActivations,
  type PackedKernels,
  type PackedWeight,
} from '../../packed-contract.js'
import { DEPTH, multiplyStrips, packedBytes } from '../product.js'
import { jobKinds } from '../runtime/job.js'
import { release } from '../runtime/memory.js'
import { type Pool, runJob } from '../runtime/pool.js'
import { type Place, placeOfBlock, type ResidentArrays } from '../runtime/resident.js'
import { copyIn, copyOut, withMemory } from '../runtime/stage.js'
import { type PreparedWeight, placeWeight } from './packed-weight.js'

/** Up to so many rows of X a weight is not expanded, or `FEW_ROUNDED`: one of a trellis costs more to expand than others. */
const FEW_ROWS = 4
/** Rows of W of a tile. */
const TILE_ROWS = 16
/** Constants of `assembly/packed/nibble-product.ts`; what it takes to turn the codes of 64 columns. */
const NIBBLE_BYTES = 32
const TURNED_BYTES = 512
/** Tables of `assembly/packed/table-product.ts`, and tiles of 16 rows of a job at most, which makes them for itself. */
const TABLES_BYTES = 4096
const MOST_TILES = 12
/** Jobs for each thread that a product with a trellis is cut into at least, where there are as many tiles. */
const JOBS_PER_THREAD = 8
/** Rows of W that are expanded at once, whole tiles of `assembly/packed-panel.ts`. */
const PANEL_ROWS = 4096
const PANEL_TILE_ROWS = 64
/** Rows of W and of X of a tile of a product in integers: whole strips, whole fours. */
const INTEGER_ROWS = 32
const INTEGER_TOKENS = 256
/** As in `assembly/packed-activations.ts`. */
const kinds = { floats: 0, int8: 1, int16: 2, float32: 3, tables: 4 } as const

/** Products with packed weights on `pool`. */
export function packedKernels(pool: Pool, arrays: ResidentArrays): PackedKernels {
  const { heap } = pool.runtime
  const prepared = new WeakMap<PackedWeight, PreparedWeight>()
  const placeOf = ({ rows, cols }: PackedWeight, own: PreparedWeight | undefined): PreparedWeight => {
    if (own !== undefined) return own
    throw new ShapeError(
      `a packed weight of ${rows} x ${cols} is not there any more: it was released, or other kernels prepared it`,
    )
  }
  return {
    preparePacked(source) {
      const own = placeWeight(pool, source)
      const weight = { rows: source.rows, cols: source.cols, bytes: own.bytes }
      prepared.set(weight, own)
      return weight
    },
    releasePacked(weight) {
      release(heap, placeOf(weight, prepared.get(weight)).at)
      prepared.delete(weight)
    },
    multiplyPacked(m, x, weight, y, activations = 'float32') {
      const own = placeOf(weight, prepared.get(weight))
      const { rows, cols } = weight
      if (m === 0) return
      withPlace(pool, arrays, x, m, cols, 'in', (input) =>
        withPlace(pool, arrays, y, m, rows, 'out', (output) => {
          const isRounded = activations !== 'float32' && !own.isFloat
          const few = isRounded && !own.trellis ? FEW_ROUNDED : FEW_ROWS
          if (m <= few) multiplyFew(pool, m, weight, own, input, output, activations)
          else if (isRounded) multiplyIntegers(pool, m, weight, own, input, output, activations)
          else multiplyMany(pool, m, weight, own, input, output)
        }),
      )
    },
  }
}

/** Runs `use` with where a block is in the kernels' memory; one that is elsewhere is copied in before, or out after. */
function withPlace(
  { runtime: { heap } }: Pool,
  arrays: ResidentArrays,
  block: Block,
  rows: number,
  cols: number,
  copied: 'in' | 'out',
  use: (place: Place) => void,
): void {
  if (arrays.has(block.data)) {
    use(placeOfBlock(arrays, block))
    return
  }
  withMemory(heap, [4 * rows * cols], (at) => {
    if (copied === 'in') copyIn(heap, block, 0, 0, rows, cols, at)
    use({ at, stride: cols })
    if (copied === 'out') copyOut(heap, at, block, 0, 0, rows, cols)
  })
}

/** A row of rounded activations: see `assembly/packed/packed-activations.ts`. */
function roundedBytes(slots: number, segments: number): number {
  return 2 * aligned(2 * slots + 32) + aligned(12 * segments)
}

const aligned = (bytes: number) => 16 * Math.ceil(bytes / 16)

/** What decoding a row of so many vectors takes: codes, elements (16 bytes at most) and margins. */
function decodingBytes(vectors: number, elementBytes: number): number {
  return aligned(2 * vectors + 64) + aligned(vectors * elementBytes + 256)
}

function multiplyFew(
  pool: Pool,
  m: number,
  { rows, cols }: PackedWeight,
  weight: PreparedWeight,
  x: Place,
  y: Place,
  activations: PackedActivations,
): void {
  const { at, segments, slots, vectors, isFloat, nibbles, trellis } = weight
  const isTables = nibbles?.goesDown && activations === 'int8'
  const kind = isTables ? kinds.tables : isFloat ? kinds.floats : kinds[activations]
  const rowBytes = isFloat ? aligned(4 * cols) : roundedBytes(slots, segments)
  withMemory(pool.runtime.heap, [m * rowBytes], (input) => {
    runJob(pool, jobKinds.roundActivations, m, [at, input, rowBytes, kind, x.at, x.stride], 4 * slots)
    const params = [at, input, rowBytes, kind, m, y.at, y.stride]
    if (trellis) multiplyTrellis(pool, m, rows, trellis, params)
    else if (nibbles && isTables) multiplyTables(pool, rows, nibbles, params)
    else if (nibbles) multiplyNibbles(pool, rows, nibbles, segments, slots, params)
    else {
      const scratch = 2 * aligned(4 * segments) + decodingBytes(vectors, 16)
      runJob(pool, jobKinds.multiplyPacked, Math.ceil(rows / TILE_ROWS), [...params, TILE_ROWS], scratch)
    }
  })
}

/** Rows of a row group at a time: they share codebooks and activations. */
function multiplyNibbles(
  pool: Pool,
  rows: number,
  { rowsPerGroup, tileRows, goesDown }: NonNullable<PreparedWeight['nibbles']>,
  segments: number,
  slots: number,
  params: readonly number[],
): void {
  const perGroup = Math.ceil(Math.min(rows, rowsPerGroup) / tileRows)
  const room = aligned(4 * segments) + 16
  const turned = goesDown ? tileRows * (slots / 4) + TURNED_BYTES : 0
  const scratch = (1 + 2 * tileRows) * room + 16 * tileRows + NIBBLE_BYTES + turned
  const groups = Math.ceil(rows / rowsPerGroup)
  runJob(pool, jobKinds.multiplyNibbles, groups * perGroup, [...params, tileRows, perGroup], scratch)
}

/** As {@link multiplyNibbles}, with tables that a job makes for all its tiles. */
function multiplyTables(
  pool: Pool,
  rows: number,
  { rowsPerGroup, tileRows, groupRows }: NonNullable<PreparedWeight['nibbles']>,
  params: readonly number[],
): void {
  const tiles = groupRows / tileRows
  const perGroup = Math.ceil(tiles / MOST_TILES)
  const atOnce = Math.ceil(tiles / perGroup)
  const scratch = TABLES_BYTES + 64 * atOnce
  const groups = Math.ceil(rows / rowsPerGroup)
  runJob(pool, jobKinds.multiplyTables, groups * perGroup, [...params, atOnce, perGroup], scratch)
}

/** A trellis multiplies pairs: vectors of 4 in two turns. */
function multiplyTrellis(
  pool: Pool,
  m: number,
  rows: number,
  { rowsPerGroup, vectorDim }: NonNullable<PreparedWeight['trellis']>,
  params: readonly number[],
): void {
  const groups = Math.ceil(rows / rowsPerGroup)
  const tiles = Math.ceil(Math.min(rows, rowsPerGroup) / TILE_ROWS)
  const atOnce = Math.min(tiles, Math.max(1, Math.floor((groups * tiles) / (JOBS_PER_THREAD * pool.threads))))
  const perGroup = Math.ceil(tiles / atOnce)
  const scratch = 64 * (3 + m) * atOnce
  for (let half = 0; half < vectorDim / 2; half++) {
    runJob(pool, jobKinds.writePairs, 1, [params[0], half], 0)
    const own = [...params, atOnce, perGroup, half]
    runJob(pool, jobKinds.multiplyTrellis, groups * perGroup, own, scratch)
  }
}

/** Many rows of X, rounded: strips of W are expanded to integers, a segment after the other. */
function multiplyIntegers(
  pool: Pool,
  m: number,
  { rows, cols }: PackedWeight,
  weight: PreparedWeight,
  x: Place,
  y: Place,
  activations: PackedActivations,
): void {
  const { at, segments, slots, pairs, mostPairs, vectors, trellis, nibbles } = weight
  const fours = Math.ceil(m / 4)
  withMemory(pool.runtime.heap, [16 * fours * (pairs + segments)], (packed) => {
    const rowBytes = roundedBytes(slots, segments)
    const kind = nibbles?.goesDown ? kinds.int16 : kinds[activations]
    const rounding = [at, packed, m, kind, x.at, x.stride, rowBytes, pairs]
    runJob(pool, jobKinds.packActivations, fours, rounding, 4 * rowBytes + 4 * slots)
    if (trellis) runJob(pool, jobKinds.writePairs, 1, [at, 0], 0)
    const strips = INTEGER_ROWS / 8
    // its panel, factors and places
    const stripBytes = 32 * (mostPairs + 8) + 32 + 96
    const decoding = trellis || nibbles ? 512 : INTEGER_ROWS * aligned(cols + 16) + decodingBytes(vectors, 4)
    const totals = 128 * strips * Math.ceil(Math.min(m, INTEGER_TOKENS) / 4)
    const tiles = Math.ceil(rows / INTEGER_ROWS) * Math.ceil(m / INTEGER_TOKENS)
    const params = [at, packed, m, y.at, y.stride, INTEGER_ROWS, INTEGER_TOKENS, mostPairs, pairs]
    runJob(pool, jobKinds.multiplyIntegers, tiles, params, totals + strips * stripBytes + 32 + decoding)
  })
}

function multiplyMany(
  pool: Pool,
  m: number,
  { rows, cols }: PackedWeight,
  weight: PreparedWeight,
  x: Place,
  y: Place,
): void {
  if (weight.isPermuted) {
    withMemory(pool.runtime.heap, [4 * m * cols], (at) => {
      const params = [weight.at, at, 4 * cols, kinds.floats, x.at, x.stride]
      runJob(pool, jobKinds.roundActivations, m, params, 0)
      multiplyExpanded(pool, m, rows, cols, weight.at, { at, stride: cols }, y)
    })
  } else multiplyExpanded(pool, m, rows, cols, weight.at, x, y)
}

/** Expands a slice of columns of some rows after the other into the packed panels of the product. */
function multiplyExpanded(
  pool: Pool,
  m: number,
  rows: number,
  cols: number,
  weight: number,
  x: Place,
  y: Place,
): void {
  const panel = Math.min(rows, PANEL_ROWS)
  const scratch = 8 * aligned(4 * DEPTH) + decodingBytes(DEPTH, 16)
  withMemory(pool.runtime.heap, [packedBytes(panel, cols)], (packed) => {
    for (let first = 0; first < rows; first += panel) {
      const count = Math.min(panel, rows - first)
      for (let from = 0; from < cols; from += DEPTH) {
        const depth = Math.min(DEPTH, cols - from)
        const params = [weight, from, depth, first, count, packed]
        runJob(pool, jobKinds.expandPacked, Math.ceil(count / PANEL_TILE_ROWS), params, scratch)
        multiplyStrips(pool, m, count, depth, packed, {
          a: { at: x.at + 4 * from, stride: x.stride },
          c: { at: y.at + 4 * first, stride: y.stride },
          alpha: 1,
          adds: from > 0,
        })
      }
    }
  })
}
