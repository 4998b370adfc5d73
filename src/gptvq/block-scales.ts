import type { TaskScales } from '../kernels/contract.js'
import type { Matrix } from '../matrix.js'
import { SCALE_LEVELS, scaleLevels } from '../packing/block-scales.js'
import { blocksPerRow, columnGroupsOf, type VqLayout } from '../packing/vq-layer.js'
import type { ColumnWalk } from './column-walk.js'

// biome-ignore lint: experiment
export const X: any = ((globalThis as any).__sc ??= { stat: 'rms', quantile: 0.01, rounds: 0, sweep: 0 })

/** The scales of a column task that starts at (row, column) of the layer; nothing for a layer without. */
export function taskScales(
  layout: VqLayout,
  scales: Float32Array | undefined,
  row: number,
  column: number,
): { readonly scales?: TaskScales } {
  const { scaleBlockSize } = layout
  if (scales === undefined || scaleBlockSize === undefined) return {}
  const stride = blocksPerRow(layout)
  const values = { data: scales, offset: row * stride + column / scaleBlockSize, stride }
  return { scales: { values, blockSize: scaleBlockSize } }
}

export function sizeOf(work: Matrix, metrics: Float64Array, d: number, r: number, start: number, end: number): number {
  const { data, cols } = work
  const at = r * cols
  if (X.stat === 'max') {
    let m = 0
    for (let j = start; j < end; j++) m = Math.max(m, Math.abs(data[at + j]))
    return m
  }
  if (X.stat === 'rms') {
    let s = 0
    for (let j = start; j < end; j++) s += data[at + j] ** 2
    return Math.sqrt(s / (end - start))
  }
  if (X.stat === 'abs') {
    let s = 0
    for (let j = start; j < end; j++) s += Math.abs(data[at + j])
    return s / (end - start)
  }
  if (X.stat === 'p4') {
    let s = 0
    for (let j = start; j < end; j++) s += data[at + j] ** 4
    return (s / (end - start)) ** 0.25
  }
  let s = 0
  let t = 0
  for (let j = start; j < end; j += d) {
    for (let a = 0; a < d; a++) {
      t += metrics[j * d + a * d + a]
      if (X.stat === 'diag') s += metrics[j * d + a * d + a] * data[at + j + a] ** 2
      else for (let b = 0; b < d; b++) s += metrics[j * d + a * d + b] * data[at + j + a] * data[at + j + b]
    }
  }
  return Math.sqrt(s / t)
}

export function chooseRatio(layout: VqLayout, work: Matrix, metrics: Float64Array): number {
  const { rows, vectorDim: d, scaleBlockSize: size, columnsPerGroup, rowsPerGroup } = layout
  if (size === undefined) return 0.5
  if (X.ratio) return Math.fround(X.ratio)
  const perRow = blocksPerRow(layout)
  const sizes = new Float64Array(rows * perRow)
  const cg = columnGroupsOf(layout)
  const most = new Float64Array(Math.ceil(rows / rowsPerGroup) * cg)
  const groupOf = (r: number, b: number) => Math.floor(r / rowsPerGroup) * cg + Math.floor((b * size) / columnsPerGroup)
  for (let r = 0; r < rows; r++) {
    for (let b = 0; b < perRow; b++) {
      const v = sizeOf(work, metrics, d, r, b * size, Math.min(work.cols, (b + 1) * size))
      sizes[r * perRow + b] = v
      const g = groupOf(r, b)
      most[g] = Math.max(most[g], v)
    }
  }
  const logs: number[] = []
  for (let r = 0; r < rows; r++)
    for (let b = 0; b < perRow; b++) {
      const v = sizes[r * perRow + b]
      if (v > 0) logs.push(Math.log(v / most[groupOf(r, b)]))
    }
  const sorted = Float64Array.from(logs).sort()
  const low = sorted[Math.floor(X.quantile * sorted.length)] ?? -1
  const ratio = Math.exp(Math.min(low * (X.stretch ?? 1), -0.01) / (SCALE_LEVELS - 1))
  if (X.log) console.log('ratio', ratio, 'lowest', Math.exp(sorted[0]), 'low', Math.exp(low), 'median', Math.exp(sorted[sorted.length >> 1]))
  return Math.fround(Math.max(ratio, 0.25))
}

/** Chooses codes of row groups first..last for blocks of [start, end). */
export function chooseScales(walk: ColumnWalk, rowGroup: number, start: number, end: number): void {
  const { layout, work, metrics, layer, scales } = walk
  const { vectorDim: d, scaleBlockSize: size, rowsPerGroup, rows } = layout
  if (size === undefined || !layer.blockScales || !scales) return
  const perRow = blocksPerRow(layout)
  const { codes, ratio } = layer.blockScales
  const levels = scaleLevels(ratio)
  const top = rowGroup * rowsPerGroup
  const bottom = Math.min(top + rowsPerGroup, rows)
  const blocks = Math.ceil((end - start) / size)
  const sizes = new Float64Array((bottom - top) * blocks)
  let most = 0
  for (let r = top; r < bottom; r++)
    for (let b = 0; b < blocks; b++) {
      const v = sizeOf(work, metrics, d, r, start + b * size, Math.min(end, start + (b + 1) * size))
      sizes[(r - top) * blocks + b] = v
      most = Math.max(most, v)
    }
  for (let r = top; r < bottom; r++)
    for (let b = 0; b < blocks; b++) {
      const v = sizes[(r - top) * blocks + b]
      const code = v > 0 ? Math.min(15, Math.max(0, Math.round(Math.log(v / most) / Math.log(ratio)))) : 15
      const at = r * perRow + start / size + b
      codes[at] = code
      scales[at] = levels[code]
    }
}
