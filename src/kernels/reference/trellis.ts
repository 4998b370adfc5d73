import type { ColumnTask } from '../contract.js'
import type { TrellisColumns, TrellisKernels, TrellisShape, TrellisTask } from '../trellis-contract.js'
import { codebookOf, indexAt, lossChange, scaleAt } from './columns.js'

/** The trellis' kernels path by path: sums in float64, the rows they change in float32. */
export const referenceTrellisKernels: TrellisKernels = {
  searchTrellis(tasks) {
    return Float64Array.from(tasks, searchColumn)
  },

  quantizeTrellis(task) {
    const { work, factor, metrics, errors, rows, width, vectorDim: d } = task
    const stage = new Float32Array(rows * width)
    for (let r = 0; r < rows; r++) {
      const from = work.offset + r * work.stride
      stage.set(work.data.subarray(from, from + width), r * width)
    }
    const cost = newCost(d)
    const error = new Float64Array(d)
    for (const { top, bottom, codebook: plain } of groupsOf(task)) {
      for (let column = 0; column < width; column += d) {
        const path = newPath(shapeAt(task, column), bottom - top)
        const codebook = codebookAt(task, column, plain)
        const metric = metrics.subarray(column * d, (column + d) * d)
        path.search((r, costs) => {
          const at = (top + r) * width + column
          const scale = scaleAt(task, top + r, column)
          cost.ofDistances(stage.subarray(at, at + d), scale, metric, codebook, costs)
        })
        for (let r = top; r < bottom; r++) {
          const key = path.keys[r - top]
          task.indices[indexAt(task, r, column)] = key
          const scale = scaleAt(task, r, column)
          for (let a = 0; a < d; a++) {
            const u = factor.offset + column + a
            let sum = stage[r * width + column + a] - Math.fround(scale * codebook[key * d + a])
            for (let b = 0; b < a; b++) sum -= error[b] * factor.data[u + (column + b) * factor.stride]
            error[a] = sum / factor.data[u + (column + a) * factor.stride]
          }
          errors.data.set(error, errors.offset + r * errors.stride + column)
          for (let a = 0; a < d; a++) {
            const u = factor.offset + (column + a) * factor.stride
            for (let j = column + d; j < width; j++) stage[r * width + j] -= error[a] * factor.data[u + j]
          }
        }
      }
    }
  },

  refineTrellis(task) {
    const { residual, hessian, steps, changes, rows, width, vectorDim: d } = task
    const stage = new Float32Array(rows * width)
    for (let r = 0; r < rows; r++) {
      const from = residual.offset + r * residual.stride
      stage.set(residual.data.subarray(from, from + width), r * width)
      steps.data.fill(0, steps.offset + r * steps.stride, steps.offset + r * steps.stride + width)
      changes[r] = 0
    }
    const cost = newCost(d)
    const metric = new Float64Array(d * d)
    const pull = new Float64Array(d)
    const step = new Float64Array(d)
    let changed = 0
    for (const { top, bottom, codebook: plain } of groupsOf(task)) {
      for (let column = 0; column < width; column += d) {
        const path = newPath(shapeAt(task, column), bottom - top)
        const codebook = codebookAt(task, column, plain)
        const own = Math.min(d, width - column)
        metric.fill(0)
        for (let a = 0; a < own; a++) {
          const h = hessian.offset + (column + a) * hessian.stride + column
          for (let b = 0; b < own; b++) metric[a * d + b] = hessian.data[h + b]
        }
        const present = (r: number) => task.indices[indexAt(task, r, column)]
        const readPull = (r: number) => {
          for (let a = 0; a < own; a++) pull[a] = stage[r * width + column + a]
        }
        const changeBy = (r: number, key: number): number => {
          const scale = scaleAt(task, r, column)
          readPull(r)
          cost.stepTo(key, present(r), scale, codebook, step)
          return lossChange(step, metric, pull)
        }
        pull.fill(0)
        path.search((r, costs) => {
          readPull(top + r)
          cost.ofSteps(present(top + r), scaleAt(task, top + r, column), metric, pull, codebook, costs)
        })
        let total = 0
        for (let r = top; r < bottom; r++) total += changeBy(r, path.keys[r - top])
        if (!(total < 0)) continue
        for (let r = top; r < bottom; r++) {
          const key = path.keys[r - top]
          if (key === present(r)) continue
          changed++
          changes[r] += changeBy(r, key)
          task.indices[indexAt(task, r, column)] = key
          for (let a = 0; a < own; a++) {
            steps.data[steps.offset + r * steps.stride + column + a] = step[a]
            const h = hessian.offset + (column + a) * hessian.stride
            for (let j = column + d; j < width; j++) stage[r * width + j] -= step[a] * hessian.data[h + j]
          }
        }
      }
    }
    return changed
  },
}

function searchColumn(task: TrellisTask): number {
  const { rows, rowsPerStart, vectorDim: d, targets, scales, metric, centroids } = task
  const height = rowsPerStart === 0 ? rows : rowsPerStart
  const cost = newCost(d)
  let loss = 0
  for (let top = 0; top < rows; top += height) {
    const path = newPath(task, Math.min(height, rows - top))
    loss += path.search((r, costs) => {
      const at = targets.offset + (top + r) * targets.stride
      const scale = scales ? scales.data[scales.offset + (top + r) * scales.stride] : 1
      cost.ofDistances(targets.data.subarray(at, at + d), scale, metric, centroids, costs)
    })
    for (let r = 0; r < path.keys.length; r++)
      task.keys[task.keyOffset + (top + r) * task.keyStride] = path.keys[r]
  }
  return loss
}

/** The Viterbi algorithm down `rows` rows. */
function newPath({ indexBits, stateBits }: TrellisShape, rows: number) {
  const states = 2 ** stateBits
  const inputs = 2 ** indexBits
  // keys that differ in their oldest index alone have the same successors
  const classes = states / inputs
  const keys = new Uint16Array(rows)
  const costs = new Float64Array(states)
  const sums = new Float64Array(states)
  const least = new Float64Array(classes)
  /** The oldest index of the best key before each class of keys, row by row. */
  const oldest = new Uint16Array(rows * classes)
  return {
    keys,
    /** @param costsOf writes what each key costs in a row; returns the least sum, and `keys` are those of it */
    search(costsOf: (row: number, costs: Float64Array) => void): number {
      sums.fill(Number.POSITIVE_INFINITY)
      sums[0] = 0
      for (let r = 0; r < rows; r++) {
        least.set(sums.subarray(0, classes))
        const choice = oldest.subarray(r * classes, (r + 1) * classes).fill(0)
        for (let i = 1; i < inputs; i++) {
          for (let c = 0; c < classes; c++) {
            if (!(sums[i * classes + c] < least[c])) continue
            least[c] = sums[i * classes + c]
            choice[c] = i
          }
        }
        costsOf(r, costs)
        for (let key = 0; key < states; key++) sums[key] = least[key >>> indexBits] + costs[key]
      }
      let key = 0
      for (let other = 1; other < states; other++) if (sums[other] < sums[key]) key = other
      const sum = rows > 0 ? sums[key] : 0
      for (let r = rows - 1; r >= 0; r--) {
        keys[r] = key
        const above = key >>> indexBits
        key = above + oldest[r * classes + above] * classes
      }
      return sum
    },
  }
}

/** Quadratic forms of d values, on arrays made once. */
function newCost(d: number) {
  const difference = new Float64Array(d)
  const base = new Float64Array(d)
  return {
    /** `(t - s c)^T M (t - s c)` for every centroid. */
    ofDistances(
      target: Float32Array,
      scale: number,
      metric: Float64Array,
      centroids: Float32Array,
      costs: Float64Array,
    ): void {
      for (let key = 0; key < costs.length; key++) {
        let sum = 0
        for (let a = 0; a < d; a++) {
          difference[a] = target[a] - Math.fround(scale * centroids[key * d + a])
          sum += metric[a * d + a] * difference[a] * difference[a]
          for (let b = 0; b < a; b++) sum += 2 * metric[a * d + b] * difference[a] * difference[b]
        }
        costs[key] = sum
      }
    },

    /** What each centroid in place of the present one does to the loss, whose slope is `-2 pull`. */
    ofSteps(
      present: number,
      scale: number,
      metric: Float64Array,
      pull: Float64Array,
      centroids: Float32Array,
      costs: Float64Array,
    ): void {
      for (let a = 0; a < d; a++) base[a] = Math.fround(scale * centroids[present * d + a])
      for (let key = 0; key < costs.length; key++) {
        let sum = 0
        for (let a = 0; a < d; a++) {
          difference[a] = Math.fround(scale * centroids[key * d + a]) - base[a]
          sum += (metric[a * d + a] * difference[a] - 2 * pull[a]) * difference[a]
          for (let b = 0; b < a; b++) sum += 2 * metric[a * d + b] * difference[a] * difference[b]
        }
        costs[key] = sum
      }
    },

    /** From the present centroid to that of `key`. */
    stepTo(key: number, present: number, scale: number, centroids: Float32Array, step: Float64Array): void {
      for (let a = 0; a < d; a++) {
        step[a] =
          Math.fround(scale * centroids[key * d + a]) - Math.fround(scale * centroids[present * d + a])
      }
    },
  }
}

/** The row groups of a task, rows counted within it, and the codebook of each. */
function* groupsOf(task: ColumnTask) {
  const { rows, rowsPerGroup } = task
  for (let top = 0; top < rows; top += rowsPerGroup) {
    yield { top, bottom: Math.min(top + rowsPerGroup, rows), codebook: codebookOf(task, top) }
  }
}

/** The trellis of the vectors that start at a column. */
function shapeAt(
  { widths, stateBits, vectorDim }: ColumnTask & TrellisColumns,
  column: number,
): TrellisShape {
  return { indexBits: widths[column / vectorDim], stateBits }
}

/** The centroids of the vectors that start at a column, before scales. */
function codebookAt(
  { factors, vectorDim }: ColumnTask & TrellisColumns,
  column: number,
  codebook: Float32Array,
): Float32Array {
  const factor = factors[column / vectorDim]
  return codebook.map((value) => value * factor)
}
