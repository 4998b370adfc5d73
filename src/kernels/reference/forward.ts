import type { AttentionTask, ForwardKernels } from '../forward-contract.js'
import { referenceKernels } from './kernels.js'

/** The plain kernels of the forward pass, in float64 between input and output. */
export const referenceForwardKernels: ForwardKernels = {
  allocate: (length) => new Float32Array(length),
  release: () => {},
  gemm: referenceKernels.gemm,

  normalizeRows(rows, cols, x, scale, epsilon, y) {
    for (let row = 0; row < rows; row++) {
      const start = row * cols
      let sum = 0
      for (let j = 0; j < cols; j++) sum += x[start + j] ** 2
      const factor = 1 / Math.sqrt(sum / cols + epsilon)
      for (let j = 0; j < cols; j++) y[start + j] = x[start + j] * factor * scale[j]
    }
  },

  attend(task) {
    const { sequences, length, heads } = task
    for (let row = 0; row < sequences * length; row++) {
      for (let head = 0; head < heads; head++) attendFrom(task, row, head)
    }
  },

  gate(gate, up, y) {
    for (let i = 0; i < y.length; i++) y[i] = (gate[i] / (1 + Math.exp(-gate[i]))) * up[i]
  },

  predict(rows, cols, logits) {
    const sums = new Float64Array(rows)
    const tops = new Int32Array(rows)
    for (let row = 0; row < rows; row++) {
      const own = logits.subarray(row * cols, (row + 1) * cols)
      const areFinite = own.every((logit) => Number.isFinite(logit))
      const largest = own.reduce((most, logit) => Math.max(most, logit), Number.NEGATIVE_INFINITY)
      tops[row] = areFinite ? own.indexOf(largest) : -1
      sums[row] = areFinite ? own.reduce((sum, logit) => sum + Math.exp(logit - largest), 0) : Number.NaN
    }
    return { sums, tops }
  },

  compare(rows, cols, expected, actual, logSums) {
    const gaps = new Float64Array(rows)
    for (let row = 0; row < rows; row++) {
      for (let at = row * cols; at < (row + 1) * cols; at++) {
        gaps[row] += Math.exp(expected[at] - logSums[row]) * (expected[at] - actual[at])
      }
    }
    return gaps
  },
}

/** One head of the token in `row`. */
function attendFrom(task: AttentionTask, row: number, head: number): void {
  const { length, heads, kvHeads, headDim, window = length, queries, keys, values, output } = task
  const position = row % length
  const seen = Math.min(position + 1, window)
  const kvHead = Math.floor((head * kvHeads) / heads)
  const query = turned(task, queries, row * heads + head, position)
  const scores = Float64Array.from({ length: seen }, (_, back) => {
    const key = turned(task, keys, (row - back) * kvHeads + kvHead, position - back)
    return query.reduce((sum, x, i) => sum + x * key[i], 0) / Math.sqrt(headDim)
  })
  const largest = Math.max(...scores)
  const weights = scores.map((score) => Math.exp(score - largest))
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  for (let i = 0; i < headDim; i++) {
    let sum = 0
    for (let back = 0; back < seen; back++) {
      sum += weights[back] * values[((row - back) * kvHeads + kvHead) * headDim + i]
    }
    output[(row * heads + head) * headDim + i] = sum / total
  }
}

/** Vector number `index` of an array of them, turned by the angles of its position. */
function turned(
  { headDim, cos, sin }: AttentionTask,
  vectors: Float32Array,
  index: number,
  position: number,
): Float64Array {
  const half = headDim / 2
  const at = (i: number) => vectors[index * headDim + i]
  return Float64Array.from({ length: headDim }, (_, i) => {
    const angle = position * headDim + i
    return at(i) * cos[angle] + (i < half ? -at(i + half) : at(i - half)) * sin[angle]
  })
}
