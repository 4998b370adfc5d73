import { solveSymmetric } from '../codebook/small-solve.js'
import { centroidsOf, vectorsPerRow } from '../packing/vq-layer.js'
import type { RowPanel } from './row-panel.js'

/**
 * The least-squares problem of one row group's codebooks: what its weights say to the values they share. Row groups
 * are counted within their panel, their unknowns (column groups x k x d) from 0.
 */

/** The rows of a group within the layer, the second exclusive. */
export function rowsOfGroup({ layout, firstGroup }: RowPanel, group: number): readonly [number, number] {
  const top = (firstGroup + group) * layout.rowsPerGroup
  return [top, Math.min(top + layout.rowsPerGroup, layout.rows)]
}

/**
 * Adds up `values` over the weights that share a codebook value: the transpose of a look-up.
 *
 * @param values rows x cols; the group's rows start at row `first`
 * @param sums receives the group's unknowns
 */
export function sumByCentroid(
  panel: RowPanel,
  group: number,
  values: Float32Array,
  first: number,
  sums: Float64Array,
): void {
  const { cols, vectorDim: d, columnsPerGroup } = panel.layout
  const { indices } = panel.layer
  const size = centroidsOf(panel.layout) * d
  const perRow = vectorsPerRow(panel.layout)
  const [top, bottom] = rowsOfGroup(panel, group)
  sums.fill(0)
  for (let r = top; r < bottom; r++) {
    const row = (first + r - top) * cols
    for (let start = 0, codebook = 0; start < cols; start += columnsPerGroup, codebook += size) {
      const end = row + Math.min(cols, start + columnsPerGroup)
      let index = r * perRow + start / d
      let at = row + start
      if (d === 2) {
        for (; at + 2 <= end; at += 2) {
          const unknown = codebook + 2 * indices[index++]
          sums[unknown] += values[at]
          sums[unknown + 1] += values[at + 1]
        }
      }
      for (; at < end; at += d) {
        const unknown = codebook + d * indices[index++]
        const width = Math.min(d, end - at)
        for (let a = 0; a < width; a++) sums[unknown + a] += values[at + a]
      }
    }
  }
}

/**
 * For each centroid the inverse (the pseudoinverse of a singular one) of the sum of `H_PP` over its vectors: the d x d
 * blocks on the diagonal of the least-squares problem, unknowns x d.
 */
export function inverseBlocks(panel: RowPanel, group: number): Float64Array {
  const { layout, unknowns } = panel
  const d = layout.vectorDim
  const blocks = diagonalBlocks(panel, group)
  const inverse = new Float64Array(d * d)
  const unit = new Float64Array(d)
  for (let at = 0; at < unknowns * d; at += d * d) {
    let trace = 0
    for (let a = 0; a < d; a++) trace += blocks[at + a * d + a]
    // a centroid without vectors: its inverse is zero as well
    if (trace === 0) continue
    for (let a = 0; a < d; a++) {
      unit.fill(0)
      unit[a] = 1
      solveSymmetric(blocks, at, unit, 0, d, inverse.subarray(a * d, (a + 1) * d))
    }
    blocks.set(inverse, at)
  }
  return blocks
}

function diagonalBlocks(panel: RowPanel, group: number): Float64Array {
  const { hessian, layout, layer, unknowns } = panel
  const { cols, vectorDim: d, columnsPerGroup } = layout
  const size = centroidsOf(layout) * d
  const perRow = vectorsPerRow(layout)
  const blocks = new Float64Array(unknowns * d)
  const [top, bottom] = rowsOfGroup(panel, group)
  for (let column = 0; column < cols; column += d) {
    const codebook = Math.floor(column / columnsPerGroup) * size
    const width = Math.min(d, cols - column)
    for (let r = top; r < bottom; r++) {
      const unknown = codebook + d * layer.indices[r * perRow + column / d]
      for (let a = 0; a < width; a++) {
        const h = (column + a) * cols + column
        for (let b = 0; b < width; b++) blocks[(unknown + a) * d + b] += hessian.data[h + b]
      }
    }
  }
  return blocks
}

/** `result = P residual` for the d x d blocks `P` of {@link inverseBlocks}; returns `residual . result`. */
export function precondition(
  inverses: Float64Array,
  residual: Float64Array,
  d: number,
  result: Float64Array,
): number {
  let energy = 0
  for (let at = 0; at < residual.length; at += d) {
    for (let a = at; a < at + d; a++) {
      let sum = 0
      for (let b = 0; b < d; b++) sum += inverses[a * d + b] * residual[at + b]
      result[a] = sum
      energy += sum * residual[a]
    }
  }
  return energy
}
