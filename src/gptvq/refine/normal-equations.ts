import { solveSymmetric } from '../../codebook/small-solve.js'
import type { Block } from '../../kernels/contract.js'
import { diagonalBlocks } from '../../kernels/diagonal-blocks.js'
import { blocksPerRow, centroidsOf, type VqLayout, vectorsPerRow } from '../../packing/vq-layer.js'
import { type RowPanel, rowsOfGroup } from '../walk/row-panel.js'
import { type ColumnRange, type ColumnStrip, stripHessian } from './column-strip.js'

/**
 * The least-squares problem of one row group's codebooks in a strip: what its weights say to the values they share. The
 * unknowns are column groups x k x d.
 */

/** Share of a 2 x 2 block's diagonal product that its determinant must exceed for the closed form to be exact enough. */
const WELL_CONDITIONED = 1e-6

/** Unknowns of one row group in a strip. */
export function unknownsOf({ panel, firstColumnGroup, lastColumnGroup }: ColumnStrip): number {
  return (lastColumnGroup - firstColumnGroup) * centroidsOf(panel.layout) * panel.layout.vectorDim
}

/** Consecutive vectors of a row that share a codebook and a scale. */
interface VectorRun {
  /** The first vector within its row. */
  readonly vector: number
  /** Columns of the strip, the second exclusive. */
  readonly from: number
  readonly to: number
  /** Where their codebook's values start among the unknowns. */
  readonly codebook: number
  /** The run's block of scales within its row. */
  readonly block: number
}

/** The runs that every row of a strip is made of. */
function vectorRuns(
  layout: VqLayout,
  { firstColumnGroup, lastColumnGroup, start, width }: ColumnRange,
): VectorRun[] {
  const { vectorDim: d, columnsPerGroup, scaleBlockSize = columnsPerGroup } = layout
  const size = centroidsOf(layout) * d
  const runs: VectorRun[] = []
  for (let group = firstColumnGroup; group < lastColumnGroup; group++) {
    const groupStart = group * columnsPerGroup - start
    const groupEnd = Math.min(groupStart + columnsPerGroup, width)
    for (let from = groupStart; from < groupEnd; from += scaleBlockSize) {
      runs.push({
        vector: (start + from) / d,
        from,
        to: Math.min(from + scaleBlockSize, groupEnd),
        codebook: (group - firstColumnGroup) * size,
        block: (start + from) / scaleBlockSize,
      })
    }
  }
  return runs
}

/** What the weights of some rows are looked up by. */
export interface LookedUp extends Pick<RowPanel, 'layout' | 'indices'> {
  /** rows x blocksPerRow. */
  readonly scales?: { readonly values: Float32Array }
}

/**
 * Adds up `values`, times scales, over the weights that share a codebook value: the transpose of a look-up.
 *
 * @param values the group's rows x the range's width
 * @param sums receives the unknowns of the row group
 */
export function sumByCentroid(
  { layout, indices, scales }: LookedUp,
  range: ColumnRange,
  group: number,
  values: Block,
  sums: Float64Array,
): void {
  const d = layout.vectorDim
  const runs = vectorRuns(layout, range)
  const blocks = blocksPerRow(layout)
  const perRow = vectorsPerRow(layout)
  const [top, bottom] = rowsOfGroup(layout, group)
  sums.fill(0)
  for (let r = top; r < bottom; r++) {
    const row = values.offset + (r - top) * values.stride
    for (const { vector, from, to, codebook, block } of runs) {
      const scale = scales ? scales.values[r * blocks + block] : 1
      addRun(values.data, row + from, row + to, indices, r * perRow + vector, d, scale, sums, codebook)
    }
  }
}

function addRun(
  values: Float32Array,
  start: number,
  end: number,
  indices: Uint16Array,
  firstIndex: number,
  d: number,
  scale: number,
  sums: Float64Array,
  codebook: number,
): void {
  let index = firstIndex
  let at = start
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

/** `H_PP` of every vector of a strip's row, vectors x d x d; beyond the end of a ragged row zero. */
export function vectorBlocks(strip: ColumnStrip): Float64Array {
  return diagonalBlocks(stripHessian(strip), strip.width, strip.panel.layout.vectorDim)
}

/**
 * For each centroid the inverse (the pseudoinverse of a singular one) of the sum of `s^2 H_PP` over its vectors with
 * scales `s`: the d x d blocks on the diagonal of the least-squares problem, unknowns x d.
 *
 * @param perVector see {@link vectorBlocks}
 */
export function inverseBlocks(strip: ColumnStrip, group: number, perVector: Float64Array): Float64Array {
  const d = strip.panel.layout.vectorDim
  const blocks = sumBlocks(strip, group, perVector)
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

function sumBlocks(strip: ColumnStrip, group: number, perVector: Float64Array): Float64Array {
  const { layout, indices, scales } = strip.panel
  const d = layout.vectorDim
  const blockSize = d * d
  const perRow = vectorsPerRow(layout)
  const scalesPerRow = blocksPerRow(layout)
  const runs = vectorRuns(layout, strip)
  const blocks = new Float64Array(unknownsOf(strip) * d)
  const [top, bottom] = rowsOfGroup(layout, group)
  for (let r = top; r < bottom; r++) {
    for (const { vector, from, to, codebook, block } of runs) {
      const scale = scales ? scales.values[r * scalesPerRow + block] : 1
      const energy = scale * scale
      addBlocks(
        perVector,
        from * d,
        to * d,
        indices,
        r * perRow + vector,
        blockSize,
        energy,
        blocks,
        codebook * d,
      )
    }
  }
  return blocks
}

function addBlocks(
  perVector: Float64Array,
  start: number,
  end: number,
  indices: Uint16Array,
  firstIndex: number,
  blockSize: number,
  energy: number,
  blocks: Float64Array,
  codebook: number,
): void {
  let index = firstIndex
  if (blockSize === 4) {
    for (let at = start; at < end; at += 4) {
      const sum = codebook + 4 * indices[index++]
      blocks[sum] += energy * perVector[at]
      blocks[sum + 1] += energy * perVector[at + 1]
      blocks[sum + 2] += energy * perVector[at + 2]
      blocks[sum + 3] += energy * perVector[at + 3]
    }
    return
  }
  for (let at = start; at < end; at += blockSize) {
    const sum = codebook + blockSize * indices[index++]
    for (let i = 0; i < blockSize; i++) blocks[sum + i] += energy * perVector[at + i]
  }
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
