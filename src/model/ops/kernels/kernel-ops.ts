import { turnOfEventLoop } from '../../../common/event-loop.js'
import { forwardKernels } from '../../../kernels/forward-kernels.js'
import type { Ops } from '../ops.js'
import { attendRows, closeKernelCache, copyKernelCache, openKernelCache } from './kernel-attention.js'
import { mixRows, pickRows, routeRows, stackRows } from './kernel-routing.js'
import { freeRows, type KernelRows, newRows, tidyRows } from './kernel-scope.js'
import { holdWeights, multiplyWeights, releaseHeld } from './kernel-weights.js'

/** The operations of a forward pass by the kernels of this package, in their memory, on all their threads. */
export const kernelOps: Ops<KernelRows> = {
  upload(values, rows, cols) {
    const x = newRows(rows, cols)
    x.data.set(values)
    return x
  },
  replace: (x, values) => kernelOps.upload(values, x.rows, x.cols),
  shape: ({ rows, cols }) => [rows, cols],
  read: ({ data }) => data,
  async take(x) {
    await turnOfEventLoop()
    const values = x.data.slice()
    freeRows(x)
    return values
  },
  tidy: tidyRows,
  free: (...matrices) => matrices.forEach(freeRows),

  hold: holdWeights,
  release: releaseHeld,

  linear(x, weights) {
    const y = newRows(x.rows, weights.rows)
    multiplyWeights(x, weights, y)
    if (weights.bias) addToRows(y, weights.bias)
    return y
  },
  norm: (x, weights) =>
    made(x, (y) => {
      const { kind, size, epsilon, scale, shift } = weights
      const runs = (x.rows * x.cols) / size
      forwardKernels().normalize({ runs, size, kind, epsilon, scale, shift, x: x.data, y: y.data })
    }),
  columns(x, first, count, width) {
    const runs = x.cols / width
    const y = newRows(x.rows, runs * count)
    for (let run = 0; run < x.rows * runs; run++) {
      const start = run * width + first
      y.data.set(x.data.subarray(start, start + count), run * count)
    }
    return y
  },
  clip: (x, limit) =>
    made(x, ({ data }) => {
      // comparisons that let NaN through
      for (let i = 0; i < data.length; i++) {
        const value = x.data[i]
        data[i] = value > limit ? limit : value < -limit ? -limit : value
      }
    }),
  add: (x, y, factor) => made(x, (sum) => forwardKernels().add(x.data, y.data, factor, sum.data)),
  scale: (x, factor) =>
    made(x, ({ data }) => {
      for (let i = 0; i < data.length; i++) data[i] = factor * x.data[i]
    }),
  softCap: (x, cap) => made(x, (y) => forwardKernels().softCap(x.data, cap, y.data)),
  activate: (x, activation) => made(x, (y) => forwardKernels().activate(activation, x.data, y.data)),
  gate: (gate, up, activation) =>
    made(gate, (y) => forwardKernels().gate(activation, gate.data, up.data, y.data)),
  gateRows: (x, logits) =>
    made(x, ({ data }) => {
      for (let row = 0; row < x.rows; row++) {
        const factor = 1 / (1 + Math.exp(-logits.data[row]))
        for (let at = row * x.cols; at < (row + 1) * x.cols; at++) data[at] = factor * x.data[at]
      }
    }),

  rotate: (x, { sequences, length, position }, heads, { dims, cos, sin }) =>
    made(x, (y) => {
      const headDim = x.cols / heads
      const sizes = { sequences, length, position, heads, headDim, dims }
      forwardKernels().rotate({ ...sizes, cos, sin, x: x.data, y: y.data })
    }),
  attend: attendRows,
  openCache: openKernelCache,
  copyCache: copyKernelCache,
  closeCache: closeKernelCache,

  route: routeRows,
  pick: pickRows,
  stack: stackRows,
  mix: mixRows,
}

/** A matrix of the shape of `x`, written by `write`. */
function made(x: KernelRows, write: (y: KernelRows) => void): KernelRows {
  const y = newRows(x.rows, x.cols)
  write(y)
  return y
}

function addToRows({ data, cols }: KernelRows, bias: Float32Array): void {
  for (let row = 0; row < data.length; row += cols) {
    for (let j = 0; j < cols; j++) data[row + j] += bias[j]
  }
}
