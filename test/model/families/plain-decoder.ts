import type {
  Activation,
  AttentionDescription,
  DecoderDescription,
  DenseFeedForward,
  FeedForwardDescription,
  LinearDescription,
  NormDescription,
} from '../../../src/model/decoder/description.js'
import { rotaryFrequencies } from '../../../src/model/decoder/rotary.js'

/** Values of a tensor, row-major. */
export type Weights = (name: string) => ArrayLike<number>

type Row = readonly number[]

/**
 * What a description says, computed as plainly as possible: one sequence, rows as lists, double precision.
 *
 * @returns the logits of each token
 */
export function plainLogits(decoder: DecoderDescription, weights: Weights, tokens: readonly number[]): Row[] {
  const { embedding, head, hiddenSize, vocabSize } = decoder
  const table = weights(embedding.tensor)
  let hidden: Row[] = tokens.map((token) =>
    range(hiddenSize, (i) => table[token * hiddenSize + i] * embedding.scale),
  )
  for (const { norms, attention, feedForward, parallel, residualScale } of decoder.blocks) {
    const norm = (one: NormDescription | undefined, x: Row[]) =>
      one ? x.map((row) => normed(one, weights, row)) : x
    const add = (x: Row[], y: Row[]) => x.map((row, t) => row.map((one, i) => one + residualScale * y[t][i]))
    const first = norm(norms.attentionInput, hidden)
    const attended = norm(norms.attentionOutput, attend(attention, weights, first))
    const between = add(hidden, attended)
    const second = parallel
      ? norms.feedForwardInput
        ? norm(norms.feedForwardInput, hidden)
        : first
      : norm(norms.feedForwardInput, between)
    const fed = norm(
      norms.feedForwardOutput,
      second.map((row) => forward(feedForward, weights, row)),
    )
    hidden = add(between, fed)
  }
  const output: LinearDescription = { kind: '', module: '', rows: vocabSize, cols: hiddenSize, bias: false }
  const matrix = weights(head.tensor)
  return hidden.map((row) =>
    multiply(matrix, output, normed(decoder.finalNorm, weights, row)).map((one) =>
      capped(one * head.scale, head.softCap),
    ),
  )
}

function range(count: number, value: (index: number) => number): number[] {
  return Array.from({ length: count }, (_, index) => value(index))
}

function sum(values: Row): number {
  return values.reduce((total, one) => total + one, 0)
}

function capped(x: number, cap: number | undefined): number {
  return cap === undefined ? x : cap * Math.tanh(x / cap)
}

function multiply(matrix: ArrayLike<number>, { rows, cols }: LinearDescription, x: Row): number[] {
  return range(rows, (r) => sum(range(cols, (c) => matrix[r * cols + c] * x[c])))
}

function linear(layer: LinearDescription, weights: Weights, x: Row): number[] {
  const y = multiply(weights(`${layer.module}.weight`), layer, x)
  if (!layer.bias) return y
  const bias = weights(`${layer.module}.bias`)
  return y.map((one, r) => one + bias[r])
}

function normed(norm: NormDescription, weights: Weights, row: Row): number[] {
  const { size, epsilon, offset } = norm
  const out: number[] = []
  for (let start = 0; start < row.length; start += size) {
    const run = row.slice(start, start + size)
    const mean = norm.kind === 'layer' ? sum(run) / size : 0
    const spread = Math.sqrt(sum(run.map((x) => (x - mean) ** 2)) / size + epsilon)
    const pick = (names: readonly string[]) =>
      names.length === 0 ? undefined : weights(names[names.length === 1 ? 0 : start / size])
    const scale = pick(norm.weights)
    const shift = pick(norm.biases)
    run.forEach((x, i) => {
      out.push(((x - mean) / spread) * (scale ? scale[i] + offset : 1) + (shift?.[i] ?? 0))
    })
  }
  return out
}

function attend(attention: AttentionDescription, weights: Weights, x: Row[]): Row[] {
  const { heads, kvHeads, headDim, window = Number.POSITIVE_INFINITY } = attention
  const parts = x.map((row) => queriesKeysValues(attention, weights, row))
  const turned = parts.map(({ queries, keys, values }, position) => ({
    queries: turn(attention, queries, position, x.length),
    keys: turn(attention, keys, position, x.length),
    values,
  }))
  return x.map((_, t) => {
    const mixed = range(heads * headDim, () => 0)
    for (let head = 0; head < heads; head++) {
      const from = Math.floor((head * kvHeads) / heads) * headDim
      const seen = turned.flatMap((_, s) => (s <= t && t - s < window ? [s] : []))
      const scores = seen.map((s) =>
        capped(
          attention.scale *
            sum(range(headDim, (i) => turned[t].queries[head * headDim + i] * turned[s].keys[from + i])),
          attention.softCap,
        ),
      )
      softmax(scores).forEach((share, at) => {
        for (let i = 0; i < headDim; i++)
          mixed[head * headDim + i] += share * turned[seen[at]].values[from + i]
      })
    }
    return linear(attention.output, weights, mixed)
  })
}

function softmax(scores: Row): number[] {
  const most = Math.max(...scores)
  const powers = scores.map((score) => Math.exp(score - most))
  return powers.map((one) => one / sum(powers))
}

function queriesKeysValues(attention: AttentionDescription, weights: Weights, row: Row) {
  const { projections, heads, kvHeads, headDim, clip, queryNorm, keyNorm } = attention
  const limited = (values: Row) =>
    clip === undefined ? values : values.map((one) => Math.max(-clip, Math.min(clip, one)))
  const [queries, keys, values] = (() => {
    if (projections.kind === 'separate') {
      const { queries, keys, values } = projections
      return [queries, keys, values].map((one) => linear(one, weights, row))
    }
    const all = linear(projections.all, weights, row)
    if (projections.order === 'parts') {
      const [q, k] = [heads * headDim, kvHeads * headDim]
      return [all.slice(0, q), all.slice(q, q + k), all.slice(q + k)]
    }
    return [0, 1, 2].map((part) => all.filter((_, i) => Math.floor(i / headDim) % 3 === part))
  })()
  return {
    queries: limited(queryNorm ? normed(queryNorm, weights, queries) : queries),
    keys: limited(keyNorm ? normed(keyNorm, weights, keys) : keys),
    values: limited(values),
  }
}

function turn({ rotary, headDim }: AttentionDescription, row: Row, position: number, length: number): Row {
  if (rotary === undefined) return row
  const { frequencies, attentionFactor } = rotaryFrequencies(rotary, length)
  const half = rotary.dims / 2
  return row.map((one, at) => {
    const i = at % headDim
    if (i >= rotary.dims) return one
    const angle = position * frequencies[i % half]
    const other = i < half ? -row[at + half] : row[at - half]
    return attentionFactor * (one * Math.cos(angle) + other * Math.sin(angle))
  })
}

function activated(activation: Activation, x: number): number {
  if (activation === 'silu') return x / (1 + Math.exp(-x))
  if (activation === 'relu') return Math.max(0, x)
  if (activation === 'gelu-tanh')
    return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))
  return 0.5 * x * (1 + erf(x / Math.SQRT2))
}

/** By its series. */
function erf(x: number): number {
  if (Math.abs(x) > 5) return Math.sign(x)
  let term = x
  let total = x
  for (let n = 1; n < 200; n++) {
    term *= (-x * x) / n
    total += term / (2 * n + 1)
  }
  return (2 / Math.sqrt(Math.PI)) * total
}

function forward(part: FeedForwardDescription, weights: Weights, row: Row): Row {
  if (part.kind !== 'routed') return dense(part, weights, row)
  const shares = softmax(linear(part.router, weights, row))
  const order = range(shares.length, (i) => i).sort((a, b) => shares[b] - shares[a])
  const chosen = order.slice(0, part.active)
  const total = part.sumToOne ? sum(chosen.map((expert) => shares[expert])) : 1
  const out = range(row.length, () => 0)
  const mix = (values: Row, share: number) => {
    values.forEach((one, i) => {
      out[i] += share * one
    })
  }
  for (const expert of chosen) mix(dense(part.experts[expert], weights, row), shares[expert] / total)
  if (part.shared !== undefined) {
    const { feedForward, gate } = part.shared
    mix(dense(feedForward, weights, row), gate ? 1 / (1 + Math.exp(-linear(gate, weights, row)[0])) : 1)
  }
  return out
}

function dense(part: DenseFeedForward, weights: Weights, row: Row): Row {
  const inner = (() => {
    if (part.kind === 'plain')
      return linear(part.up, weights, row).map((one) => activated(part.activation, one))
    const both =
      part.kind === 'gated'
        ? [...linear(part.gate, weights, row), ...linear(part.up, weights, row)]
        : linear(part.gateUp, weights, row)
    const width = both.length / 2
    return range(width, (i) => activated(part.activation, both[i]) * both[width + i])
  })()
  return linear(part.down, weights, inner)
}
