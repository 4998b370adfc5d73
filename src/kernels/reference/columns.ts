import type { ColumnKernels, ColumnTask } from '../contract.js'
import { assignNearest, centroidNorms, projectVectors } from './assign.js'

/** The columns' kernels vector by vector; searches and errors in float64, the rows they change in float32. */
export const referenceColumnKernels: ColumnKernels = {
  quantizeColumns(task) {
    const { work, factor, metrics, errors, width, vectorDim: d, centroids: k } = task
    const row = new Float32Array(width)
    const error = new Float64Array(d)
    const vector = new Float32Array(d)
    const projected = new Float64Array(d)
    const search = newSearch(d, k)
    for (let r = 0; r < task.rows; r++) {
      const codebook = codebookOf(task, r)
      row.set(work.data.subarray(work.offset + r * work.stride, work.offset + r * work.stride + width))
      for (let column = 0; column < width; column += d) {
        const metric = metrics.subarray(column * d, (column + d) * d)
        const scale = scaleAt(task, r, column)
        for (let a = 0; a < d; a++) vector[a] = row[column + a] / scale
        projectVectors(vector, 1, d, metric, 1, projected, search.score)
        const nearest = search.nearest(projected, codebook, metric)
        task.indices[indexAt(task, r, column)] = nearest
        for (let a = 0; a < d; a++) {
          const u = factor.offset + column + a
          let sum = row[column + a] - Math.fround(scale * codebook[nearest * d + a])
          for (let b = 0; b < a; b++) sum -= error[b] * factor.data[u + (column + b) * factor.stride]
          error[a] = sum / factor.data[u + (column + a) * factor.stride]
        }
        errors.data.set(error, errors.offset + r * errors.stride + column)
        for (let a = 0; a < d; a++) {
          const u = factor.offset + (column + a) * factor.stride
          for (let j = column + d; j < width; j++) row[j] -= error[a] * factor.data[u + j]
        }
      }
    }
  },

  refineColumns(task) {
    const { residual, hessian, steps, changes, width, vectorDim: d, centroids: k } = task
    const row = new Float32Array(width)
    const metric = new Float64Array(d * d)
    const pull = new Float64Array(d)
    const projected = new Float64Array(d)
    const step = new Float64Array(d)
    const search = newSearch(d, k)
    let changed = 0
    for (let r = 0; r < task.rows; r++) {
      const codebook = codebookOf(task, r)
      const at = residual.offset + r * residual.stride
      row.set(residual.data.subarray(at, at + width))
      steps.data.fill(0, steps.offset + r * steps.stride, steps.offset + r * steps.stride + width)
      changes[r] = 0
      for (let column = 0; column < width; column += d) {
        const own = Math.min(d, width - column)
        const present = task.indices[indexAt(task, r, column)]
        const scale = scaleAt(task, r, column)
        metric.fill(0)
        for (let a = 0; a < own; a++) {
          const h = hessian.offset + (column + a) * hessian.stride + column
          for (let b = 0; b < own; b++) metric[a * d + b] = hessian.data[h + b]
        }
        for (let a = 0; a < d; a++) {
          pull[a] = a < own ? row[column + a] : 0
          projected[a] = pull[a] / scale
          for (let b = 0; b < d; b++) projected[a] += metric[a * d + b] * codebook[present * d + b]
        }
        const nearest = search.nearest(projected, codebook, metric)
        for (let a = 0; a < d; a++) {
          step[a] =
            Math.fround(scale * codebook[nearest * d + a]) - Math.fround(scale * codebook[present * d + a])
        }
        const change = lossChange(step, metric, pull)
        if (!(change < 0)) continue
        changed++
        changes[r] += change
        task.indices[indexAt(task, r, column)] = nearest
        for (let a = 0; a < own; a++) {
          steps.data[steps.offset + r * steps.stride + column + a] = step[a]
          const h = hessian.offset + (column + a) * hessian.stride
          for (let j = column + d; j < width; j++) row[j] -= step[a] * hessian.data[h + j]
        }
      }
    }
    return changed
  },
}

/** The codebook of the row group that a row of a task, counted within it, belongs to. */
export function codebookOf(task: ColumnTask, row: number): Float32Array {
  const group = Math.floor((task.firstRow + row) / task.rowsPerGroup)
  const at = task.codebookOffset + group * task.codebookStride
  return task.codebooks.subarray(at, at + task.centroids * task.vectorDim)
}

/** Where the index of a vector is that starts at a column. */
export function indexAt(task: ColumnTask, row: number, column: number): number {
  return task.indexOffset + row * task.indexStride + column / task.vectorDim
}

/** The scale of the weight at (row, column); 1 without scales. */
export function scaleAt({ scales }: ColumnTask, row: number, column: number): number {
  if (scales === undefined) return 1
  const { values, blockSize } = scales
  return values.data[values.offset + row * values.stride + Math.floor(column / blockSize)]
}

/** `s^T M s - 2 s . y`: what a step of one vector does to the loss. */
export function lossChange(step: Float64Array, metric: Float64Array, pull: Float64Array): number {
  const d = step.length
  let change = 0
  for (let a = 0; a < d; a++) {
    let sum = -2 * pull[a]
    for (let b = 0; b < d; b++) sum += metric[a * d + b] * step[b]
    change += step[a] * sum
  }
  return change
}

/** Searches for one vector at a time, on arrays made once. */
function newSearch(d: number, k: number) {
  const norms = new Float64Array(k)
  const index = new Uint16Array(1)
  const score = new Float64Array(1)
  return {
    score,
    nearest(projected: Float64Array, codebook: Float32Array, metric: Float64Array): number {
      centroidNorms(codebook, k, d, metric, 1, norms)
      assignNearest(projected, 1, d, codebook, k, norms, 1, index, score)
      return index[0]
    },
  }
}
