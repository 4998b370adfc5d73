/**
 * Brings its own activations: a network of two layers runs batch by batch, what reaches its second layer is summed into
 * a Hessian, and that layer is quantized with it and, to compare, as if all its inputs were alike and independent.
 *
 * Run it with `npx tsx examples/activations.ts`.
 */
import {
  dequantizeLayer,
  HessianAccumulator,
  type Matrix,
  matrix,
  quantizeLayer,
  reconstructionError,
} from 'gptvq'

const [inputs, hidden, outputs] = [48, 128, 64]
let state = 1
const uniform = () => {
  state = (state * 48271) % 2147483647
  return state / 2147483647 - 0.5
}
const randomMatrix = (rows: number, cols: number) =>
  matrix(rows, cols, Float32Array.from({ length: rows * cols }, uniform))

const first = randomMatrix(hidden, inputs)
const second = randomMatrix(outputs, hidden)

/** What reaches the second layer: max(0, X W^T), tokens x hidden. */
function activationsOf(batch: Matrix): Matrix {
  const result = matrix(batch.rows, hidden)
  for (let t = 0; t < batch.rows; t++) {
    for (let h = 0; h < hidden; h++) {
      let sum = 0
      for (let i = 0; i < inputs; i++) sum += batch.data[t * inputs + i] * first.data[h * inputs + i]
      result.data[t * hidden + h] = Math.max(0, sum)
    }
  }
  return result
}

const calibration = new HessianAccumulator(hidden)
for (let batch = 0; batch < 8; batch++) calibration.add(activationsOf(randomMatrix(256, inputs)))
const heldOut = new HessianAccumulator(hidden)
heldOut.add(activationsOf(randomMatrix(512, inputs)))

const alike = matrix(hidden, hidden)
for (let i = 0; i < hidden; i++) alike.data[i * hidden + i] = 1

console.log(`calibrated on ${calibration.tokens} rows of activations, scored on ${heldOut.tokens} others`)
for (const [name, hessian] of [
  ['inputs taken as alike', alike],
  ['own activations', calibration.hessian()],
] as const) {
  const layer = await quantizeLayer(second, hessian, { vectorDim: 2, bits: 2, groupSize: 2048 })
  const { relative, snrDb } = reconstructionError(second, dequantizeLayer(layer), heldOut.hessian())
  console.log(`${name.padEnd(21)}  relative error ${relative.toFixed(4)}  ${snrDb.toFixed(2)} dB`)
}
