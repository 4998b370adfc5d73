import { type Matrix, matrix } from '../common/matrix.js'
import { inOrdinaryUnits } from '../hessian/unit-scale.js'
import { wholeBlock } from '../kernels/contract.js'
import { halfToFloat } from '../kernels/half.js'
import { kernels } from '../kernels/kernels.js'
import type { ScalarLayer } from '../packing/scalar-layer.js'
import { type Cell, candidateGrids, cellsFrom, type Grid, rounded, setGrid } from './grids.js'
import type { ScalarSettings } from './scalar-options.js'

/**
 * Gives each group the grid by which the layer's outputs are off least: `|X Q^T - X W^T|^2 = tr(E H E^T) tokens / 2` with
 * `E = Q - W`, so that the Hessian stands for the tokens. Groups of a row share its outputs: from the left on each is
 * chosen in view of the errors of all others, those to come being on the grid that spans them. So no choice makes the
 * outputs worse than all spanning grids would.
 *
 * @param weight out x in
 * @param hessian in x in, `(2 / tokens) X^T X`
 * @throws NumericError naming the layer
 */
export function searchByOutputs(
  weight: Matrix,
  hessian: Matrix,
  layer: ScalarLayer,
  settings: ScalarSettings,
  name: string,
): void {
  const { scaled } = inOrdinaryUnits(hessian)
  const errors = matrix(weight.rows, weight.cols)
  const starts = Array.from(
    { length: Math.ceil(weight.cols / layer.groupSize) },
    (_, g) => g * layer.groupSize,
  )
  const groups = starts.map((start) =>
    cellsFrom(layer, start, settings).map((cell) => {
      const grids = candidateGrids(weight, cell, settings, name)
      const spanning = grids[grids.length - 1]
      setGrid(layer, cell, spanning)
      writeErrors(weight, cell, spanning, layer.bits, errors, 0)
      return { cell, grids }
    }),
  )
  for (const cells of groups) searchGroup(weight, scaled, layer, cells, errors)
}

interface CellChoice {
  readonly cell: Cell
  readonly grids: readonly Grid[]
}

/** Chooses the grids of all cells of some columns, and keeps their errors. */
function searchGroup(
  weight: Matrix,
  hessian: Matrix,
  layer: ScalarLayer,
  cells: readonly CellChoice[],
  errors: Matrix,
): void {
  const { start, end } = cells[0].cell
  const width = end - start
  const { rows, cols } = weight
  const own = { data: hessian.data, offset: start * cols + start, stride: cols }
  const tried = matrix(rows, width)
  const product = matrix(rows, width)
  const gemm = kernels().gemm
  // what the errors of other groups say of each weight of these: E H less the part of the group itself
  const others = matrix(rows, width)
  const held = { data: errors.data, offset: start, stride: cols }
  gemm(
    'AB',
    rows,
    width,
    cols,
    1,
    wholeBlock(errors.data, cols),
    { ...own, offset: start },
    0,
    wholeBlock(others.data, width),
  )
  gemm('AB', rows, width, width, -1, held, own, 1, wholeBlock(others.data, width))

  const least = new Float64Array(cells.length).fill(Number.POSITIVE_INFINITY)
  const most = cells.reduce((count, { grids }) => Math.max(count, grids.length), 0)
  // from the widest grid on, so that of equal ones it stays
  for (let turn = 1; turn <= most; turn++) {
    for (const { cell, grids } of cells) {
      writeErrors(weight, cell, grids[Math.max(0, grids.length - turn)], layer.bits, tried, start)
    }
    gemm('AB', rows, width, width, 1, wholeBlock(tried.data, width), own, 0, wholeBlock(product.data, width))
    for (const [i, { cell, grids }] of cells.entries()) {
      if (turn > grids.length) continue
      let loss = 0
      for (let at = cell.from * width; at < cell.to * width; at++) {
        loss += tried.data[at] * (product.data[at] + 2 * others.data[at])
      }
      if (loss >= least[i]) continue
      least[i] = loss
      setGrid(layer, cell, grids[grids.length - turn])
      for (let r = cell.from; r < cell.to; r++) {
        errors.data.set(tried.data.subarray(r * width, (r + 1) * width), r * cols + start)
      }
    }
  }
}

/** Writes `Q - W` of a cell on a grid; column `first` of the weights is the first of `errors`. */
function writeErrors(
  weight: Matrix,
  { from, to, start, end }: Cell,
  grid: Grid,
  bits: number,
  errors: Matrix,
  first: number,
): void {
  const scale = halfToFloat(grid.scale)
  const largest = 2 ** bits - 1
  for (let r = from; r < to; r++) {
    for (let j = start; j < end; j++) {
      const value = weight.data[r * weight.cols + j]
      errors.data[r * errors.cols + j - first] = rounded(value, scale, grid.zero, largest) - value
    }
  }
}
