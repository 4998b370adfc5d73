import { solveSymmetric } from '../codebook/small-solve.js'
import { blocksPerRow, centroidsOf, vectorsPerRow } from '../packing/vq-layer.js'
import type { RowPanel } from './row-panel.js'

/**
 * The least-squares problem of one row group's codebooks: what its weights say to the values they share. Row groups
 * are counted within their panel, their unknowns (column groups x k x d) from 0.
 */

/** Share of a 2 x 2 block's diagonal product that its determinant must exceed for the closed form to be exact enough. */
const WELL_CONDITIONED = 1e-6

/** The rows of a group within the layer, the second exclusive. */
export function rowsOfGroup(
  { layout, firstGroup }: Pick<RowPanel, 'layout' | 'firstGroup'>,
  group: number,
): readonly [number, number] {
  const top = (firstGroup + group) * layout.rowsPerGroup
  return [top, Math.min(top + layout.rowsPerGroup, layout.rows)]
}

/**
 * Adds up `values`, times scales, over the weights that share a codebook value: the transpose of a look-up.
 *
 * @param values rows x cols; the group's rows start at row `first`
 * @param sums receives the group's unknowns
 */
export function sumByCentroid(
  panel: Pick<RowPanel, 'layout' | 'layer' | 'firstGroup' | 'scales'>,
  group: number,
  values: Float32Array,
  first: number,
  sums: Float64Array,
): void {
  const { cols, vectorDim: d, columnsPerGroup, scaleBlockSize = columnsPerGroup } = panel.layout
  const { layer, scales } = panel
  const { indices } = layer
  const blocks = blocksPerRow(panel.layout)
  const size = centroidsOf(panel.layout) * d
  const perRow = vectorsPerRow(panel.layout)
  const [top, bottom] = rowsOfGroup(panel, group)
  sums.fill(0)
  for (let r = top; r < bottom; r++) {
    const row = (first + r - top) * cols
    for (let start = 0, codebook = 0; start < cols; start += columnsPerGroup, codebook += size) {
      const groupEnd = Math.min(cols, start + columnsPerGroup)
      let index = r * perRow + start / d
      let at = row + start
      for (let block = start; block < groupEnd; block += scaleBlockSize) {
        const scale = scales ? scales[r * blocks + block / scaleBlockSize] : 1
        const end = row + Math.min(block + scaleBlockSize, groupEnd)
        if (d === 2) {
          for (; at + 2 <= end; at += 2) {
            const unknown = codebook + 2 * indices[index++]
            sums[unknown] += scale * values[at]
            sums[unknown + 1] += scale * values[at + 1]
          }
        }
        for (; at < end; at += d) {
          const unknown = codebook + d * indices[index++]
          const width = Math.min(d, end - at)
          for (let a = 0; a < width; a++) sums[unknown + a] += scale * values[at + a]
        }
      }
    }
  }
}

/** `H_PP` of every vector of a row, vectors x d x d; beyond the end of a ragged row zero. */
export function vectorBlocks({ hessian, layout }: RowPanel): Float64Array {
  const { cols, vectorDim: d } = layout
  const blocks = new Float64Array(vectorsPerRow(layout) * d * d)
  for (let i = 0; i < cols; i++) {
    const first = i - (i % d)
    for (let j = first; j < Math.min(first + d, cols); j++) {
      blocks[i * d + j - first] = hessian.data[i * cols + j]
    }
  }
  return blocks
}

/**
 * For each centroid the inverse (the pseudoinverse of a singular one) of the sum of `s^2 H_PP` over its vectors with
 * scales `s`: the d x d blocks on the diagonal of the least-squares problem, unknowns x d.
 *
 * @param perVector see {@link vectorBlocks}
 */
export function inverseBlocks(panel: RowPanel, group: number, perVector: Float64Array): Float64Array {
  const d = panel.layout.vectorDim
  const blocks = sumBlocks(panel, group, perVector)
  const unit = new Float64Array(d)
  const inverse = new Float64Array(d * d)
  for (let at = 0; at < blocks.length; at += d * d) {
    if (invertEasy(blocks, at, d)) continue
    for (let a = 0; a < d; a++) {
      unit.fill(0)
      unit[a] = 1
      solveSymmetric(blocks, at, unit, 0, d, inverse.subarray(a * d, (a + 1) * d))
    }
    blocks.set(inverse, at)
  }
  return blocks
}

function sumBlocks(panel: RowPanel, group: number, perVector: Float64Array): Float64Array {
  const { layout, layer, unknowns, scales } = panel
  const { vectorDim: d, columnsPerGroup, scaleBlockSize = columnsPerGroup } = layout
  const size = centroidsOf(layout) * d * d
  const blockSize = d * d
  const perRow = vectorsPerRow(layout)
  const perGroup = columnsPerGroup / d
  const perScale = scaleBlockSize / d
  const scalesPerRow = blocksPerRow(layout)
  const blocks = new Float64Array(unknowns * d)
  const [top, bottom] = rowsOfGroup(panel, group)
  for (let r = top; r < bottom; r++) {
    for (let start = 0, codebook = 0; start < perRow; start += perGroup, codebook += size) {
      const end = Math.min(perRow, start + perGroup)
      for (let v = start; v < end; v++) {
        const to = codebook + blockSize * layer.indices[r * perRow + v]
        const from = blockSize * v
        const scale = scales ? scales[r * scalesPerRow + Math.floor(v / perScale)] : 1
        for (let i = 0; i < blockSize; i++) blocks[to + i] += scale * scale * perVector[from + i]
      }
    }
  }
  return blocks
}

/** Inverts, in place, the block of a centroid without vectors (to zero) and well-conditioned ones of two dimensions. */
function invertEasy(blocks: Float64Array, at: number, d: number): boolean {
  let trace = 0
  for (let a = 0; a < d; a++) trace += blocks[at + a * d + a]
  if (trace === 0) return true
  if (d !== 2) return false
  const [a, b, c] = [blocks[at], blocks[at + 1], blocks[at + 3]]
  const determinant = a * c - b * b
  if (!(determinant > WELL_CONDITIONED * a * c)) return false
  blocks[at] = c / determinant
  blocks[at + 1] = -b / determinant
  blocks[at + 2] = -b / determinant
  blocks[at + 3] = a / determinant
  return true
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
