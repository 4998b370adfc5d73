import type { ForwardKernels } from '../forward-contract.js'
import { decodeBfloats } from '../half.js'
import { referenceActivations, softCapped } from './activation.js'
import { attend, rotate, shareAttention } from './attention.js'
import { referenceKernels } from './kernels.js'
import { referencePacked } from './packed.js'

/** The plain kernels of the forward pass, in float64 between input and output. */
export const referenceForwardKernels: ForwardKernels = {
  allocate: (length) => new Float32Array(length),
  release: () => {},
  gemm: referenceKernels.gemm,
  ...referencePacked,

  normalize({ runs, size, kind, epsilon, scale, shift, x, y }) {
    for (let run = 0; run < runs; run++) {
      const values = Float64Array.from(x.subarray(run * size, (run + 1) * size))
      const mean = kind === 'layer' ? values.reduce((sum, value) => sum + value, 0) / size : 0
      const square = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / size
      const factor = 1 / Math.sqrt(square + epsilon)
      const of = (run * size) % scale.length
      for (let i = 0; i < size; i++) {
        y[run * size + i] = (values[i] - mean) * factor * scale[of + i] + (shift?.[of + i] ?? 0)
      }
    }
  },

  rotate,
  attend,
  shareAttention,

  activate(activation, x, y) {
    const activated = referenceActivations[activation]
    for (let i = 0; i < y.length; i++) y[i] = activated(x[i])
  },

  gate(activation, gate, up, y) {
    const activated = referenceActivations[activation]
    for (let i = 0; i < y.length; i++) y[i] = activated(gate[i]) * up[i]
  },

  multiplyBfloats(m, n, k, x, w, y) {
    const weights = new Float32Array(n * k)
    decodeBfloats(w.subarray(0, n * k), weights)
    for (let i = 0; i < m; i++) {
      for (let row = 0; row < n; row++) {
        let sum = 0
        for (let j = 0; j < k; j++) sum += x[i * k + j] * weights[row * k + j]
        y[i * n + row] = sum
      }
    }
  },

  add(x, added, factor, y) {
    for (let i = 0; i < y.length; i++) y[i] = x[i] + factor * added[i]
  },

  softCap(x, cap, y) {
    for (let i = 0; i < y.length; i++) y[i] = softCapped(x[i], cap)
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

  weigh(rows, cols, shares, logits) {
    const sums = new Float64Array(rows)
    for (let row = 0; row < rows; row++) {
      for (let at = row * cols; at < (row + 1) * cols; at++) sums[row] += shares[at] * logits[at]
    }
    return sums
  },
}
