import type { Routes } from '../ops.js'
import { type KernelRows, newRows } from './kernel-scope.js'

/** See `Ops.route`: tokens x experts logits. */
export function routeRows(logits: KernelRows, active: number, sumToOne: boolean): Routes<KernelRows> {
  const { rows, cols: experts } = logits
  const weights = newRows(rows, experts)
  weights.data.fill(0)
  const tokens: number[][] = Array.from({ length: experts }, () => [])
  const shares = new Float64Array(experts)
  for (let row = 0; row < rows; row++) {
    const own = logits.data.subarray(row * experts, (row + 1) * experts)
    softmaxOf(own, shares)
    // by the logits: shares of different ones may round to the same
    const chosen = highest(own, active)
    const sum = sumToOne ? chosen.reduce((total, expert) => total + shares[expert], 0) : 1
    for (const expert of chosen) {
      weights.data[row * experts + expert] = shares[expert] / sum
      tokens[expert].push(row)
    }
  }
  return { weights, tokens: tokens.map((rows) => Int32Array.from(rows)) }
}

function softmaxOf(logits: Float32Array, shares: Float64Array): void {
  let largest = Number.NEGATIVE_INFINITY
  for (const logit of logits) if (logit > largest) largest = logit
  let sum = 0
  for (let i = 0; i < logits.length; i++) {
    shares[i] = Math.exp(logits[i] - largest)
    sum += shares[i]
  }
  for (let i = 0; i < logits.length; i++) shares[i] /= sum
}

/** The places of the `count` largest values, the largest first, of equal ones the first. */
function highest(values: Float32Array, count: number): number[] {
  const places: number[] = []
  for (let i = 0; i < values.length; i++) {
    let at = places.length
    while (at > 0 && values[places[at - 1]] < values[i]) at--
    if (at >= count) continue
    places.splice(at, 0, i)
    if (places.length > count) places.pop()
  }
  return places
}

/** These rows of a matrix. */
export function pickRows({ data, cols }: KernelRows, tokens: Int32Array): KernelRows {
  const picked = newRows(tokens.length, cols)
  tokens.forEach((row, i) => {
    picked.data.set(data.subarray(row * cols, (row + 1) * cols), i * cols)
  })
  return picked
}

/** See `Ops.stack`. */
export function stackRows(parts: readonly KernelRows[]): KernelRows {
  const { cols } = parts[0]
  const all = newRows(
    parts.reduce((sum, { rows }) => sum + rows, 0),
    cols,
  )
  let at = 0
  for (const { data, rows } of parts) {
    all.data.set(data.subarray(0, rows * cols), at)
    at += rows * cols
  }
  return all
}

/** See `Ops.mix`. */
export function mixRows(
  sum: KernelRows,
  x: KernelRows,
  { tokens, weights }: Routes<KernelRows>,
  expert: number,
): KernelRows {
  const { rows, cols } = sum
  const mixed = newRows(rows, cols)
  mixed.data.set(sum.data)
  tokens[expert].forEach((row, i) => {
    const weight = weights.data[row * weights.cols + expert]
    for (let j = 0; j < cols; j++) mixed.data[row * cols + j] += weight * x.data[i * cols + j]
  })
  return mixed
}
