import * as tf from '@tensorflow/tfjs-core'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Matrix } from '../../../src/common/matrix.js'
import { randomGenerator } from '../../../src/common/random.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import type { LinearWeights, Ops, TokenRows } from '../../../src/model/ops/ops.js'
import { tensorOps } from '../../../src/model/ops/tensors/tensor-ops.js'
import { type LinearListener, vectorJacobian } from '../../../src/model/ops/tensors/vector-jacobian.js'
import { expandedWeight } from '../../../src/model/ops/weight-forms.js'
import { normals } from '../../support/random-matrix.js'
import { thrownBy } from '../../support/tolerance.js'
import {
  attentionCase,
  engines,
  normalMatrix,
  type OpCase,
  opCases,
  randomLinear,
  randomNorm,
  rotaryTables,
  type TestMatrix,
} from './cases.js'
import { type Doubles, referenceOps } from './reference-ops.js'

const step = 2 ** -10

/** The slope at 0, by central differences of fourth order. */
function slope(lossAt: (by: number) => number): number {
  const difference = (by: number) => (lossAt(by) - lossAt(-by)) / (2 * by)
  return (4 * difference(step) - difference(2 * step)) / 3
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i]
  return sum
}

/** A random direction of length 1, and a single axis. */
function directions(length: number, seed: number): Float32Array[] {
  const random = normals(length, seed)
  const axis = new Float32Array(length)
  axis[Math.floor(randomGenerator(seed)() * length)] = 1
  return [random.map((value) => value / Math.sqrt(dot(random, random))), axis]
}

const doubles = ({ rows, cols, values }: TestMatrix): Doubles => ({
  rows,
  cols,
  values: Float64Array.from(values),
})

function moved(x: Doubles, direction: Float32Array, by: number): Doubles {
  return { ...x, values: x.values.map((value, i) => value + by * direction[i]) }
}

const release = ({ weights }: OpCase) => {
  for (const one of weights) tensorOps().release(one)
}

/** Compares the gradient on each input with slopes of the float64 operations; nothing must be left behind. */
function expectSlopes(given: OpCase, seed: number, tolerance = 1e-5): void {
  const { inputs, run } = given
  const exact = inputs.map(doubles)
  const upstream = normals(run(referenceOps, exact).values.length, seed)
  const before = tf.memory().numTensors
  for (const [index, { rows, cols, values }] of inputs.entries()) {
    const f = <T>(ops: Ops<T>, x: T, other: (i: number) => T) =>
      run(
        ops,
        inputs.map((_, i) => (i === index ? x : other(i))),
      )
    const gradient = vectorJacobian(
      (ops, x) => f(ops, x, (i) => ops.upload(inputs[i].values, inputs[i].rows, inputs[i].cols)),
      values,
      rows,
      cols,
      upstream,
    )
    expect(gradient.length).toBe(values.length)
    const size = Math.sqrt(dot(gradient, gradient))
    for (const direction of directions(values.length, seed + index)) {
      const expected = slope((by) => {
        const output = f(referenceOps, moved(exact[index], direction, by), (i) => exact[i])
        return dot(output.values, upstream)
      })
      expect(Math.abs(dot(gradient, direction) - expected)).toBeLessThanOrEqual(tolerance * (1 + size))
    }
  }
  release(given)
  expect(tf.memory().numTensors).toBe(before)
}

/** Attention as a block has it, its shape that of a family with everything on. */
function attentionBlock(length: number, window: number | undefined): OpCase {
  const shape = { heads: 6, kvHeads: 2, headDim: 6, scale: 0.4, softCap: 4, window }
  const tokens: TokenRows = { sequences: 2, length, position: 0 }
  const all = randomLinear('qkv', 60, 10, 1)
  const output = randomLinear('o', 10, 36, 3, false)
  const queryNorm = randomNorm('rms', 6, 5)
  const keyNorm = randomNorm('layer', 12, 6, { shift: true })
  const tables = rotaryTables(length, 4)
  return {
    inputs: [normalMatrix(2 * length, 10, 7)],
    weights: [all, output, queryNorm, keyNorm],
    run: (ops, [x]) => {
      const projected = ops.linear(x, all)
      const queries = ops.norm(ops.columns(projected, 0, 36, 60), queryNorm)
      const keys = ops.norm(ops.columns(projected, 36, 12, 60), keyNorm)
      const values = ops.columns(projected, 48, 12, 60)
      const turned = ops.rotate(queries, tokens, 6, tables)
      const attended = ops.attend(turned, ops.rotate(keys, tokens, 2, tables), values, tokens, shape)
      return ops.add(x, ops.linear(attended, output), 0.7)
    },
  }
}

/** A mixture of experts as a block has it, with one shared by all tokens. `change` is given each linear layer. */
function mixture(sumToOne: boolean, change = (weights: LinearWeights) => weights): OpCase {
  const experts = 5
  const linear = (...args: Parameters<typeof randomLinear>) => change(randomLinear(...args))
  const router = linear('router', experts, 8, 1, false)
  const parts = Array.from({ length: experts + 1 }, (_, i) => ({
    gate: linear(`gate ${i}`, 6, 8, 10 * i + 2),
    up: linear(`up ${i}`, 6, 8, 10 * i + 3),
    down: linear(`down ${i}`, 8, 6, 10 * i + 4),
  }))
  const sharedGate = linear('shared gate', 1, 8, 99, false)
  const feed = <T>(ops: Ops<T>, x: T, { gate, up, down }: (typeof parts)[number]) =>
    ops.linear(ops.gate(ops.linear(x, gate), ops.linear(x, up), 'silu'), down)
  return {
    inputs: [normalMatrix(9, 8, 5)],
    weights: [router, sharedGate, ...parts.flatMap(({ gate, up, down }) => [gate, up, down])],
    run: (ops, [x]) => {
      const routes = ops.route(ops.linear(x, router), 2, sumToOne)
      let sum = ops.gateRows(feed(ops, x, parts[experts]), ops.linear(x, sharedGate))
      for (const [expert, tokens] of routes.tokens.entries()) {
        if (tokens.length === 0) continue
        const before = sum
        sum = ops.mix(before, feed(ops, ops.pick(x, tokens), parts[expert]), routes, expert)
        // the gradient must not need what a pass frees as soon as it can
        if (expert > 0) ops.free(before)
      }
      return sum
    },
  }
}

describe.each(engines)('gradients on the engine %s', (engine) => {
  beforeAll(async () => {
    await startEngine(engine)
  })

  it.each(Object.entries(opCases))('are the slopes of float64: %s', (_, cases) => {
    fc.assert(
      fc.property(cases, fc.nat(1000), (given, seed) => expectSlopes(given, seed)),
      { numRuns: 25 },
    )
  })

  it.each([undefined, 3, 7])('of attention with all that belongs to it are, window %s', (window) => {
    expectSlopes(attentionBlock(9, window), 1)
  })

  it.each([undefined, 30, 140])('of attention longer than a chunk of queries are, window %s', (window) => {
    const shape = { heads: 2, kvHeads: 1, headDim: 4, scale: 0.5, softCap: 3, window }
    expectSlopes(attentionCase(shape, 2, 261, 1), 1)
  })

  it.each([true, false])(
    'of a mixture of experts are, the path through the router included; sum to one: %s',
    (sumToOne) => {
      expectSlopes(mixture(sumToOne), 1)
    },
  )

  it('hand each linear layer its input and the gradient on its output, once', () => {
    const given = mixture(true)
    const [{ rows, cols, values }] = given.inputs
    const upstream = normals(rows * cols, 3)
    const seen = new Map<string, Float32Array>()
    const onLinear: LinearListener = (kind, input, outputGradient) => {
      expect(seen.has(kind)).toBe(false)
      seen.set(kind, product(outputGradient, input))
    }
    const run = (listener?: LinearListener) =>
      vectorJacobian((ops, x) => given.run(ops, [x]), values, rows, cols, upstream, listener)
    const before = tf.memory().numTensors
    expect(run(onLinear)).toEqual(run())
    release(given)
    expect(tf.memory().numTensors).toBe(before)
    expect([...seen.keys()].sort()).toEqual(given.weights.map(({ kind }) => kind).sort())
    for (const [kind, gradient] of seen) {
      const size = Math.sqrt(dot(gradient, gradient))
      for (const direction of directions(gradient.length, 4)) {
        const expected = slope((by) => {
          // the oracle reads numbers, of whatever precision
          const away = (weight: Float32Array) =>
            Float64Array.from(weight, (value, i) => value + by * direction[i]) as unknown as Float32Array
          const there = mixture(true, (weights) =>
            weights.kind === kind ? { ...weights, weight: away(expandedWeight(weights)) } : weights,
          )
          return dot(there.run(referenceOps, there.inputs.map(doubles)).values, upstream)
        })
        expect(Math.abs(dot(gradient, direction) - expected)).toBeLessThanOrEqual(1e-5 * (1 + size))
      }
    }
  })

  it.each([undefined, [-0.5, 1]] as const)('pass replaced values, within the limits %j', (limits) => {
    const [rows, cols] = [5, 8]
    const weights = randomLinear('out', 6, cols, 1)
    const values = normals(rows * cols, 2)
    const rounded = values.map(Math.round)
    const upstream = normals(rows * 6, 3)
    let seen: Matrix | undefined
    const gradient = vectorJacobian(
      (ops, x) => ops.linear(ops.replace(ops.scale(x, 2), rounded, limits), weights),
      ...([values, rows, cols, upstream] as const),
      (_, input) => {
        seen = { ...input, data: input.data.slice() }
      },
    )
    expect(seen!.data).toEqual(rounded)
    const weight = expandedWeight(weights)
    for (let at = 0; at < values.length; at++) {
      const [row, col] = [Math.floor(at / cols), at % cols]
      let expected = 0
      for (let out = 0; out < 6; out++) expected += 2 * upstream[row * 6 + out] * weight[out * cols + col]
      const isWithin = limits === undefined || (2 * values[at] >= limits[0] && 2 * values[at] <= limits[1])
      expect(gradient[at]).toBeCloseTo(isWithin ? expected : 0, 5)
    }
    tensorOps().release(weights)
  })

  it('leave nothing behind when a listener throws, or the function itself', () => {
    const given = attentionBlock(5, undefined)
    const [{ rows, cols, values }] = given.inputs
    const upstream = normals(rows * cols, 3)
    const before = tf.memory().numTensors
    const stop = () => {
      throw new Error('stopped')
    }
    const back = (f: OpCase['run'], listener?: LinearListener) =>
      thrownBy(() => vectorJacobian((ops, x) => f(ops, [x]), values, rows, cols, upstream, listener))
    expect(back(given.run, stop)).toEqual(new Error('stopped'))
    const halfway: OpCase['run'] = (ops, [x]) => {
      given.run(ops, [x])
      return stop()
    }
    expect(back(halfway)).toEqual(new Error('stopped'))
    release(given)
    expect(tf.memory().numTensors).toBe(before)
    expectSlopes(given, 1)
  })
})

/** `a^T b`. */
function product(a: Matrix, b: Matrix): Float32Array {
  const sums = new Float64Array(a.cols * b.cols)
  for (let token = 0; token < a.rows; token++) {
    for (let i = 0; i < a.cols; i++) {
      for (let j = 0; j < b.cols; j++) {
        sums[i * b.cols + j] += a.data[token * a.cols + i] * b.data[token * b.cols + j]
      }
    }
  }
  return Float32Array.from(sums)
}
