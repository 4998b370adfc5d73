import type { Activation } from '../../../src/model/decoder/description.js'
import type {
  AttentionShape,
  KeyValueCache,
  LinearWeights,
  NormWeights,
  Ops,
  RotaryTables,
  Routes,
  TokenRows,
} from '../../../src/model/ops/ops.js'
import { expandedWeight } from '../../../src/model/ops/weight-forms.js'

/** A matrix in float64, row-major. */
export interface Doubles {
  readonly rows: number
  readonly cols: number
  readonly values: Float64Array
}

/** Every operation from its definition, element by element in float64: what engines are compared with. */
export const referenceOps: Ops<Doubles> = {
  upload: (values, rows, cols) => ({ rows, cols, values: Float64Array.from(values) }),
  replace: ({ rows, cols }, values) => ({ rows, cols, values: Float64Array.from(values) }),
  shape: ({ rows, cols }) => [rows, cols],
  read: ({ values }) => Float32Array.from(values),
  take: async ({ values }) => Float32Array.from(values),
  tidy: (use) => use(),
  free: () => {},
  hold: (weights) => weights,
  release: () => {},
  linear,
  norm,
  columns: (x, first, count, width) => {
    const runs = x.cols / width
    return made(x.rows, runs * count, (i, j) => at(x, i, Math.floor(j / count) * width + first + (j % count)))
  },
  clip: (x, limit) => mapped(x, (value) => Math.max(-limit, Math.min(limit, value))),
  add: (x, y, factor) => mapped(x, (value, i, j) => value + factor * at(y, i, j)),
  scale: (x, factor) => mapped(x, (value) => factor * value),
  softCap: (x, cap) => mapped(x, (value) => capped(value, cap)),
  activate: (x, activation) => mapped(x, (value) => activated(value, activation)),
  gate: (gate, up, activation) => mapped(gate, (value, i, j) => activated(value, activation) * at(up, i, j)),
  gateRows: (x, logits) => mapped(x, (value, i) => value * sigmoid(at(logits, i, 0))),
  rotate,
  attend,
  openCache,
  copyCache: (cache, positions, capacity) => {
    const copy = openCache(cache.sequences, capacity)
    const first = ({ keys, values }: { keys: Float64Array[]; values: Float64Array[] }) => ({
      keys: keys.slice(0, positions),
      values: values.slice(0, positions),
    })
    caches.set(copy, caches.get(cache)!.map(first))
    copy.positions = positions
    return copy
  },
  closeCache: () => {},
  route,
  pick: (x, tokens) => made(tokens.length, x.cols, (i, j) => at(x, tokens[i], j)),
  stack: (parts) => {
    const rows = parts.flatMap((part) => Array.from({ length: part.rows }, (_, i) => ({ part, i })))
    return made(rows.length, parts[0].cols, (row, j) => at(rows[row].part, rows[row].i, j))
  },
  mix: (sum, x, { tokens, weights }, expert) => {
    const mixed = { ...sum, values: sum.values.slice() }
    for (const [i, token] of tokens[expert].entries()) {
      const weight = at(weights, token, expert)
      for (let j = 0; j < x.cols; j++) mixed.values[token * x.cols + j] += weight * at(x, i, j)
    }
    return mixed
  },
}

function at({ cols, values }: Doubles, row: number, col: number): number {
  return values[row * cols + col]
}

function made(rows: number, cols: number, value: (row: number, col: number) => number): Doubles {
  const values = new Float64Array(rows * cols)
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) values[i * cols + j] = value(i, j)
  }
  return { rows, cols, values }
}

function mapped(x: Doubles, map: (value: number, row: number, col: number) => number): Doubles {
  return made(x.rows, x.cols, (i, j) => map(at(x, i, j), i, j))
}

function sum(count: number, term: (i: number) => number): number {
  let total = 0
  for (let i = 0; i < count; i++) total += term(i)
  return total
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x))
const capped = (x: number, cap: number) => cap * Math.tanh(x / cap)

function activated(x: number, activation: Activation): number {
  switch (activation) {
    case 'silu':
      return x * sigmoid(x)
    case 'gelu':
      return (x * (1 + erf(x / Math.SQRT2))) / 2
    case 'gelu-tanh':
      return (x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))) / 2
    case 'relu':
      return x < 0 ? 0 : x
  }
}

/** By its power series, far out by the continued fraction of `1 - erf`. */
function erf(x: number): number {
  if (Math.abs(x) > 2.5) {
    const t = Math.abs(x)
    let fraction = t
    for (let n = 80; n > 0; n--) fraction = t + n / 2 / fraction
    return Math.sign(x) * (1 - Math.exp(-t * t) / (Math.sqrt(Math.PI) * fraction))
  }
  let power = x
  let total = x
  for (let n = 1; n < 80; n++) {
    power *= (-x * x) / n
    total += power / (2 * n + 1)
  }
  return (2 / Math.sqrt(Math.PI)) * total
}

function linear(x: Doubles, weights: LinearWeights): Doubles {
  const { rows, cols, bias } = weights
  const weight = expandedWeight(weights)
  return made(x.rows, rows, (i, j) => sum(cols, (k) => at(x, i, k) * weight[j * cols + k]) + (bias?.[j] ?? 0))
}

function norm(x: Doubles, { kind, size, epsilon, scale, shift }: NormWeights): Doubles {
  return mapped(x, (value, i, j) => {
    const first = j - (j % size)
    const mean = kind === 'layer' ? sum(size, (k) => at(x, i, first + k)) / size : 0
    const square = sum(size, (k) => (at(x, i, first + k) - mean) ** 2) / size
    const normed = (value - mean) / Math.sqrt(square + epsilon)
    return normed * scale[j % scale.length] + (shift?.[j % scale.length] ?? 0)
  })
}

function rotate(x: Doubles, tokens: TokenRows, heads: number, { dims, cos, sin }: RotaryTables): Doubles {
  const headDim = x.cols / heads
  return mapped(x, (value, i, j) => {
    const k = j % headDim
    if (k >= dims) return value
    const angle = (tokens.position + (i % tokens.length)) * dims + k
    const other = k < dims / 2 ? -at(x, i, j + dims / 2) : at(x, i, j - dims / 2)
    return value * cos[angle] + other * sin[angle]
  })
}

/** Of each open cache the keys and values of each sequence, a row per position. */
const caches = new WeakMap<KeyValueCache, { keys: Float64Array[]; values: Float64Array[] }[]>()

function openCache(sequences: number, capacity: number): KeyValueCache {
  const cache = { sequences, capacity, positions: 0 }
  caches.set(
    cache,
    Array.from({ length: sequences }, () => ({ keys: [], values: [] })),
  )
  return cache
}

function attend(
  queries: Doubles,
  keys: Doubles,
  values: Doubles,
  tokens: TokenRows,
  shape: AttentionShape,
  cache = openCache(tokens.sequences, tokens.length),
): Doubles {
  const { heads, kvHeads, headDim, scale, softCap, window = Number.POSITIVE_INFINITY } = shape
  const output = made(queries.rows, queries.cols, () => 0)
  for (const [sequence, seen] of caches.get(cache)!.entries()) {
    for (let i = sequence * tokens.length; i < (sequence + 1) * tokens.length; i++) {
      seen.keys.push(keys.values.subarray(i * keys.cols, (i + 1) * keys.cols))
      seen.values.push(values.values.subarray(i * keys.cols, (i + 1) * keys.cols))
      const first = Math.max(0, seen.keys.length - window)
      for (let head = 0; head < heads; head++) {
        const from = Math.floor((head * kvHeads) / heads) * headDim
        const scores = seen.keys.slice(first).map((key) => {
          const score = scale * sum(headDim, (k) => at(queries, i, head * headDim + k) * key[from + k])
          return softCap === undefined ? score : capped(score, softCap)
        })
        const shares = softmax(scores)
        for (let k = 0; k < headDim; k++) {
          output.values[i * queries.cols + head * headDim + k] = sum(
            shares.length,
            (p) => shares[p] * seen.values[first + p][from + k],
          )
        }
      }
    }
  }
  cache.positions += tokens.length
  return output
}

function softmax(scores: readonly number[]): number[] {
  const largest = scores.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)
  const powers = scores.map((score) => Math.exp(score - largest))
  const total = powers.reduce((a, b) => a + b, 0)
  return powers.map((power) => power / total)
}

function route(logits: Doubles, active: number, sumToOne: boolean): Routes<Doubles> {
  const experts = logits.cols
  const weights = made(logits.rows, experts, () => 0)
  const tokens: number[][] = Array.from({ length: experts }, () => [])
  for (let token = 0; token < logits.rows; token++) {
    const scores = Array.from({ length: experts }, (_, expert) => at(logits, token, expert))
    const shares = softmax(scores)
    const chosen = [...scores.keys()].sort((a, b) => scores[b] - scores[a] || a - b).slice(0, active)
    const total = sumToOne ? chosen.reduce((sum, expert) => sum + shares[expert], 0) : 1
    for (const expert of chosen) {
      tokens[expert].push(token)
      weights.values[token * experts + expert] = shares[expert] / total
    }
  }
  return { tokens: tokens.map((list) => Int32Array.from(list)), weights }
}
