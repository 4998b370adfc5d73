import fc from 'fast-check'
import { randomGenerator } from '../../../src/common/random.js'
import type { Activation } from '../../../src/model/decoder/description.js'
import type {
  AttentionShape,
  LinearWeights,
  NormWeights,
  Ops,
  RotaryTables,
  TokenRows,
} from '../../../src/model/ops/ops.js'
import { availableEngines } from '../../support/engines.js'
import { normals } from '../../support/random-matrix.js'

/** The engines that the operations on tensors are tested on. */
export const engines = await availableEngines()

export interface TestMatrix {
  readonly rows: number
  readonly cols: number
  readonly values: Float32Array
}

/** Something to compute from some matrices, on whatever engine. */
export interface OpCase {
  readonly inputs: readonly TestMatrix[]
  /** To be released afterwards. */
  readonly weights: readonly (LinearWeights | NormWeights)[]
  readonly run: <T>(ops: Ops<T>, inputs: readonly T[]) => T
}

export function normalMatrix(rows: number, cols: number, seed: number): TestMatrix {
  return { rows, cols, values: normals(rows * cols, seed) }
}

/** A matrix whose values are at least 1/16 away from multiples of 1/8, where a slope may change. */
function awayFromKinks(rows: number, cols: number, seed: number): TestMatrix {
  const values = normals(rows * cols, seed).map((value) => (Math.floor(8 * value) + 0.5) / 8)
  return { rows, cols, values }
}

export function randomLinear(
  kind: string,
  rows: number,
  cols: number,
  seed: number,
  bias = true,
): LinearWeights {
  return {
    kind,
    rows,
    cols,
    weight: normals(rows * cols, seed).map((value) => value / Math.sqrt(cols)),
    bias: bias ? normals(rows, seed + 1) : undefined,
  }
}

export function randomNorm(
  kind: NormWeights['kind'],
  size: number,
  seed: number,
  { runs = 1, shift = false, epsilon = 1e-5 } = {},
): NormWeights {
  const scale = normals(runs * size, seed).map((value) => 1 + 0.3 * value)
  return { kind, size, epsilon, scale, shift: shift ? normals(runs * size, seed + 1) : undefined }
}

export function rotaryTables(positions: number, dims: number): RotaryTables {
  const angle = (i: number) => {
    const pair = i % (dims / 2)
    return Math.floor(i / dims) * 100 ** (-pair / dims)
  }
  const table = (of: (x: number) => number) =>
    Float32Array.from({ length: positions * dims }, (_, i) => 1.1 * of(angle(i)))
  return { dims, cos: table(Math.cos), sin: table(Math.sin) }
}

/** Logits whose order a small change does not alter; with ties each but the last equals another of its row. */
function spacedLogits(rows: number, cols: number, seed: number, ties: boolean): TestMatrix {
  const random = randomGenerator(seed)
  const values = new Float32Array(rows * cols)
  for (let row = 0; row < rows; row++) {
    const order = Array.from({ length: cols }, (_, i) => ({ i, key: random() })).sort((a, b) => a.key - b.key)
    for (const [rank, { i }] of order.entries()) values[row * cols + i] = 0.4 * (ties ? rank >> 1 : rank) - 1
  }
  return { rows, cols, values }
}

const few = fc.integer({ min: 1, max: 6 })
const seeds = fc.nat(1e6)
const factors = fc.constantFrom(1, -1, 0.5, 2.25)
const activations = fc.constantFrom<Activation>('silu', 'gelu', 'gelu-tanh', 'relu')

/** A case of one matrix and one operation. */
function ofOne(x: TestMatrix, run: <T>(ops: Ops<T>, x: T) => T): OpCase {
  return { inputs: [x], weights: [], run: (ops, [only]) => run(ops, only) }
}

const attentionShapes = fc
  .record({
    kvHeads: fc.integer({ min: 1, max: 3 }),
    group: fc.integer({ min: 1, max: 3 }),
    headDim: fc.integer({ min: 1, max: 8 }),
    scale: fc.constantFrom(0.25, 1, 1.5),
    softCap: fc.constantFrom(undefined, 2),
    window: fc.constantFrom(undefined, 1, 3, 50),
  })
  .map(({ group, ...shape }): AttentionShape => ({ heads: group * shape.kvHeads, ...shape }))

export function attentionCase(
  shape: AttentionShape,
  sequences: number,
  length: number,
  seed: number,
): OpCase {
  const { heads, kvHeads, headDim } = shape
  const tokens: TokenRows = { sequences, length, position: 0 }
  const rows = sequences * length
  return {
    inputs: [
      normalMatrix(rows, heads * headDim, seed),
      normalMatrix(rows, kvHeads * headDim, seed + 1),
      normalMatrix(rows, kvHeads * headDim, seed + 2),
    ],
    weights: [],
    run: (ops, [queries, keys, values]) => ops.attend(queries, keys, values, tokens, shape),
  }
}

/** Of each operation, cases of random shapes and values. */
export const opCases: Readonly<Record<string, fc.Arbitrary<OpCase>>> = {
  linear: fc
    .tuple(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 40 }), few, fc.boolean(), seeds)
    .map(([rows, cols, tokens, bias, seed]) => {
      const weights = randomLinear('a', rows, cols, seed, bias)
      const x = normalMatrix(tokens, cols, seed + 2)
      return { ...ofOne(x, (ops, x) => ops.linear(x, weights)), weights: [weights] }
    }),
  norm: fc
    .tuple(
      fc.constantFrom<NormWeights['kind']>('rms', 'layer'),
      fc.integer({ min: 2, max: 9 }),
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 1, max: 3 }),
      few,
      fc.boolean(),
      seeds,
    )
    .map(([kind, size, runs, repeats, tokens, shift, seed]) => {
      const weights = randomNorm(kind, size, seed, { runs, shift, epsilon: 0.1 })
      const x = normalMatrix(tokens, size * runs * repeats, seed + 2)
      return { ...ofOne(x, (ops, x) => ops.norm(x, weights)), weights: [weights] }
    }),
  columns: fc
    .tuple(few, few, few, few, few, seeds)
    .map(([tokens, runs, first, count, rest, seed]) =>
      ofOne(normalMatrix(tokens, runs * (first - 1 + count + rest - 1), seed), (ops, x) =>
        ops.columns(x, first - 1, count, first - 1 + count + rest - 1),
      ),
    ),
  clip: fc
    .tuple(few, few, fc.constantFrom(0.5, 1), seeds)
    .map(([rows, cols, limit, seed]) =>
      ofOne(awayFromKinks(rows, cols, seed), (ops, x) => ops.clip(x, limit)),
    ),
  add: fc.tuple(few, few, factors, seeds).map(([rows, cols, factor, seed]) => ({
    inputs: [normalMatrix(rows, cols, seed), normalMatrix(rows, cols, seed + 1)],
    weights: [],
    run: (ops, [x, y]) => ops.add(x, y, factor),
  })),
  'add a matrix to itself': fc
    .tuple(few, few, factors, seeds)
    .map(([rows, cols, factor, seed]) =>
      ofOne(normalMatrix(rows, cols, seed), (ops, x) => ops.add(x, x, factor)),
    ),
  scale: fc
    .tuple(few, few, factors, seeds)
    .map(([rows, cols, factor, seed]) =>
      ofOne(normalMatrix(rows, cols, seed), (ops, x) => ops.scale(x, factor)),
    ),
  softCap: fc
    .tuple(few, few, fc.constantFrom(0.5, 3), seeds)
    .map(([rows, cols, cap, seed]) => ofOne(normalMatrix(rows, cols, seed), (ops, x) => ops.softCap(x, cap))),
  activate: fc
    .tuple(few, few, activations, seeds)
    .map(([rows, cols, activation, seed]) =>
      ofOne(awayFromKinks(rows, cols, seed), (ops, x) => ops.activate(x, activation)),
    ),
  'activate far from zero': fc
    .tuple(activations, fc.constantFrom(5, 20, 200))
    .map(([activation, size]) =>
      ofOne({ rows: 1, cols: 2, values: Float32Array.of(size, -size) }, (ops, x) =>
        ops.activate(x, activation),
      ),
    ),
  gate: fc.tuple(few, few, activations, seeds).map(([rows, cols, activation, seed]) => ({
    inputs: [awayFromKinks(rows, cols, seed), normalMatrix(rows, cols, seed + 1)],
    weights: [],
    run: (ops, [gate, up]) => ops.gate(gate, up, activation),
  })),
  gateRows: fc.tuple(few, few, seeds).map(([rows, cols, seed]) => ({
    inputs: [normalMatrix(rows, cols, seed), normalMatrix(rows, 1, seed + 1)],
    weights: [],
    run: (ops, [x, logits]) => ops.gateRows(x, logits),
  })),
  rotate: fc
    .tuple(few, few, few, fc.integer({ min: 1, max: 4 }), fc.nat(5), fc.nat(7), seeds)
    .map(([sequences, length, heads, pairs, rest, position, seed]) => {
      const tables = rotaryTables(position + length + 1, 2 * pairs)
      const x = normalMatrix(sequences * length, heads * (2 * pairs + rest), seed)
      return ofOne(x, (ops, x) => ops.rotate(x, { sequences, length, position }, heads, tables))
    }),
  attend: fc
    .tuple(attentionShapes, fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 9 }), seeds)
    .map(([shape, sequences, length, seed]) => attentionCase(shape, sequences, length, seed)),
  route: fc
    .tuple(few, fc.integer({ min: 2, max: 9 }), fc.nat(7), fc.boolean(), seeds)
    .map(([rows, experts, active, sumToOne, seed]) =>
      ofOne(
        spacedLogits(rows, experts, seed, false),
        (ops, logits) => ops.route(logits, 1 + (active % experts), sumToOne).weights,
      ),
    ),
  pick: fc
    .tuple(fc.integer({ min: 1, max: 9 }), few, fc.array(fc.nat(100), { minLength: 1, maxLength: 9 }), seeds)
    .map(([rows, cols, places, seed]) =>
      ofOne(normalMatrix(rows, cols, seed), (ops, x) =>
        ops.pick(
          x,
          Int32Array.from(places, (place) => place % rows),
        ),
      ),
    ),
  mix: fc
    .tuple(fc.integer({ min: 1, max: 9 }), few, fc.integer({ min: 1, max: 5 }), seeds)
    .map(([rows, cols, experts, seed]) => {
      const random = randomGenerator(seed)
      const expert = Math.floor(random() * experts)
      const tokens = Int32Array.from(
        Array.from({ length: rows }, (_, i) => i).filter((i) => i === 0 || random() < 0.5),
      )
      const lists = Array.from({ length: experts }, (_, i) => (i === expert ? tokens : new Int32Array()))
      return {
        inputs: [
          normalMatrix(rows, cols, seed + 1),
          normalMatrix(tokens.length, cols, seed + 2),
          normalMatrix(rows, experts, seed + 3),
        ],
        weights: [],
        run: (ops, [sum, x, weights]) => ops.mix(sum, x, { tokens: lists, weights }, expert),
      }
    }),
}

/** Cases that cannot be differentiated. */
export const forwardCases: Readonly<Record<string, fc.Arbitrary<OpCase>>> = {
  'route among equal logits': fc
    .tuple(few, fc.integer({ min: 2, max: 9 }), fc.nat(7), fc.boolean(), seeds)
    .map(([rows, experts, active, sumToOne, seed]) =>
      ofOne(
        spacedLogits(rows, experts, seed, true),
        (ops, logits) => ops.route(logits, 1 + (active % experts), sumToOne).weights,
      ),
    ),
  stack: fc.tuple(fc.array(few, { minLength: 1, maxLength: 4 }), few, seeds).map(([rows, cols, seed]) => ({
    inputs: rows.map((count, i) => normalMatrix(count, cols, seed + i)),
    weights: [],
    run: (ops, parts) => ops.stack(parts),
  })),
  'attend after a copy of the first positions of a cache': fc
    .tuple(attentionShapes, fc.integer({ min: 1, max: 3 }), few, few, fc.nat(9), fc.nat(3), seeds)
    .map(([shape, sequences, before, after, kept, spare, seed]) =>
      copiedCase(shape, sequences, { before, after, kept: kept % (before + 1), spare }, seed),
    ),
  'attend with a cache, some tokens at a time': fc
    .tuple(
      attentionShapes,
      fc.integer({ min: 1, max: 3 }),
      fc.array(few, { minLength: 1, maxLength: 4 }),
      seeds,
    )
    .map(([shape, sequences, lengths, seed]) => cachedCase(shape, sequences, lengths, seed)),
}

/** Gives what attention does to the last tokens. */
export function cachedCase(
  shape: AttentionShape,
  sequences: number,
  lengths: readonly number[],
  seed: number,
): OpCase {
  const parts = lengths.map((length, i) => attentionCase(shape, sequences, length, seed + 3 * i))
  return {
    inputs: parts.flatMap(({ inputs }) => inputs),
    weights: [],
    run: (ops, inputs) => {
      const cache = ops.openCache(
        sequences,
        lengths.reduce((a, b) => a + b, 0),
        shape,
      )
      const outputs = lengths.map((length, i) => {
        const [queries, keys, values] = inputs.slice(3 * i, 3 * i + 3)
        const tokens = { sequences, length, position: cache.positions }
        return ops.attend(queries, keys, values, tokens, shape, cache)
      })
      ops.closeCache(cache)
      return outputs[outputs.length - 1]
    },
  }
}

/** Gives what attention does to `after` tokens behind the first `kept` of the `before` tokens that a cache holds. */
function copiedCase(
  shape: AttentionShape,
  sequences: number,
  { before, after, kept, spare }: Readonly<Record<'before' | 'after' | 'kept' | 'spare', number>>,
  seed: number,
): OpCase {
  const parts = [before, after].map((length, i) => attentionCase(shape, sequences, length, seed + 3 * i))
  return {
    inputs: parts.flatMap(({ inputs }) => inputs),
    weights: [],
    run: (ops, inputs) => {
      const cache = ops.openCache(sequences, before + 1, shape)
      const tokens = { sequences, length: before, position: 0 }
      ops.attend(inputs[0], inputs[1], inputs[2], tokens, shape, cache)
      const copy = ops.copyCache(cache, kept, kept + after + spare)
      ops.closeCache(cache)
      const behind = { sequences, length: after, position: kept }
      const output = ops.attend(inputs[3], inputs[4], inputs[5], behind, shape, copy)
      ops.closeCache(copy)
      return output
    },
  }
}
