import * as tf from '@tensorflow/tfjs-core'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { ShapeError } from '../../../src/common/errors.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import type { Ops } from '../../../src/model/ops/ops.js'
import { tensorOps } from '../../../src/model/ops/tensors/tensor-ops.js'
import { normals } from '../../support/random-matrix.js'
import { expectClose, largestDifference, rejectionOf } from '../../support/tolerance.js'
import {
  attentionCase,
  cachedCase,
  engines,
  forwardCases,
  normalMatrix,
  type OpCase,
  opCases,
  randomLinear,
  randomNorm,
  type TestMatrix,
} from './cases.js'
import { type Doubles, referenceOps } from './reference-ops.js'

const ops = tensorOps()

const upload = <T>(on: Ops<T>, { rows, cols, values }: TestMatrix) => on.upload(values, rows, cols)

/** What the running engine makes of a case; it must leave nothing behind. */
function computed({ inputs, weights, run }: OpCase): { values: Float32Array; shape: number[] } {
  const before = tf.memory().numTensors
  const result = ops.tidy(() => {
    const uploaded = inputs.map((input) => upload(ops, input))
    const output = run(ops, uploaded)
    // none of the operations changes its operands
    for (const [i, x] of uploaded.entries()) expect(ops.read(x)).toEqual(inputs[i].values)
    return { values: ops.read(output).slice(), shape: output.shape }
  })
  for (const one of weights) ops.release(one)
  expect(tf.memory().numTensors).toBe(before)
  return result
}

function expected({ inputs, run }: OpCase): Doubles {
  return run(
    referenceOps,
    inputs.map((input) => upload(referenceOps, input)),
  )
}

function expectAsExpected(given: OpCase): void {
  const { values, shape } = computed(given)
  const { values: exact, rows, cols } = expected(given)
  expect(shape).toEqual([rows, cols])
  const largest = exact.reduce((a, b) => Math.max(a, Math.abs(b)), 0)
  expectClose(values, exact, 2e-6 * (1 + largest))
}

describe.each(engines)('operations on tensors of the engine %s', (engine) => {
  beforeAll(async () => {
    await startEngine(engine)
  })

  it.each(Object.entries({ ...opCases, ...forwardCases }))('equal float64: %s', (_, cases) => {
    fc.assert(fc.property(cases, expectAsExpected), { numRuns: 40 })
  })

  it.each([undefined, 40, 200])(
    'equal float64 in attention longer than a chunk of queries, window %s',
    (window) => {
      const shape = { heads: 4, kvHeads: 2, headDim: 6, scale: 0.5, softCap: 3, window }
      expectAsExpected(attentionCase(shape, 2, 300, 1))
      expectAsExpected(cachedCase(shape, 2, [140, 1, 150, 1], 1))
    },
  )

  it('keep NaN to the tokens that have it', () => {
    const rows = 3
    for (const name of [
      'clip',
      'softCap',
      'activate',
      'scale',
      'linear',
      'norm',
      'rotate',
      'columns',
      'gateRows',
    ]) {
      const cases = opCases[name].filter(({ inputs }) => inputs[0].rows >= rows)
      fc.assert(
        fc.property(cases, (given) => {
          const [x, ...others] = given.inputs
          const damaged = x.values.slice().fill(Number.NaN, x.cols, 2 * x.cols)
          const { values } = computed({ ...given, inputs: [{ ...x, values: damaged }, ...others] })
          const whole = computed(given).values
          const cols = values.length / x.rows
          values.forEach((value, i) => {
            expect(value).toBe(Math.floor(i / cols) === 1 ? Number.NaN : whole[i])
          })
        }),
        { numRuns: 8 },
      )
    }
  })

  it('send a token of NaN logits to as many experts as any other', () => {
    ops.tidy(() => {
      const logits = ops.upload(Float32Array.of(1, 3, 2, Number.NaN, Number.NaN, Number.NaN), 2, 3)
      const { tokens, weights } = ops.route(logits, 2, true)
      expect(tokens.reduce((sum, list) => sum + list.length, 0)).toBe(4)
      expect(tokens[1]).toContain(0)
      expect(ops.read(weights).subarray(0, 3)[0]).toBe(0)
      expect(ops.read(weights).subarray(3).some(Number.isNaN)).toBe(true)
    })
  })

  it('give the rows of each expert, rising', () => {
    ops.tidy(() => {
      const logits = ops.upload(Float32Array.of(1, 0, 2, 0, 0, 0, 5, 6, 6), 3, 3)
      expect(ops.route(logits, 2, false).tokens).toEqual([
        Int32Array.of(0, 1),
        Int32Array.of(1, 2),
        Int32Array.of(0, 2),
      ])
    })
  })

  it('prepare weights once, until they are released', () => {
    const weights = randomLinear('a', 5, 7, 1)
    const x = ops.upload(normals(14, 2), 2, 7)
    const before = tf.memory().numTensors
    const held = ops.hold(weights)
    expect(tf.memory().numTensors).toBe(before + 2)
    const first = ops.tidy(() => ops.read(ops.linear(x, held)).slice())
    const second = ops.tidy(() => ops.read(ops.linear(x, held)).slice())
    expect(tf.memory().numTensors).toBe(before + 2)
    ops.release(held)
    ops.release(held)
    expect(tf.memory().numTensors).toBe(before)
    const third = ops.tidy(() => ops.read(ops.linear(x, weights)).slice())
    expect([second, third]).toEqual([first, first])
    ops.release(weights)
    const norm = randomNorm('layer', 7, 3, { shift: true })
    ops.tidy(() => ops.read(ops.norm(x, norm)))
    expect(tf.memory().numTensors).toBe(before + 2)
    ops.release(norm)
    ops.free(x)
    expect(tf.memory().numTensors).toBe(before - 1)
  })

  it('hand out arrays of their own', async () => {
    const given = normals(6, 1)
    const matrix = ops.upload(given, 2, 3)
    const same = ops.columns(matrix, 0, 3, 3)
    const taken = await ops.take(same)
    expect(taken).toEqual(given)
    taken.fill(0)
    expect(given).toEqual(normals(6, 1))
    expect(ops.read(matrix)).toEqual(given)
    expect(await ops.take(matrix)).toEqual(given)
  })

  it('leave what tidy returns, and nothing when it throws', () => {
    const before = tf.memory().numTensors
    const made = ops.tidy(() => {
      const x = ops.upload(normals(6, 1), 2, 3)
      return { twice: ops.scale(x, 2), values: ops.read(x), none: undefined }
    })
    expect(tf.memory().numTensors).toBe(before + 1)
    expect(ops.read(made.twice)).toEqual(made.values.map((value) => 2 * value))
    const kept = ops.tidy(() => ops.scale(made.twice, 2))
    ops.free(made.twice, kept)
    expect(ops.tidy(() => 3)).toBe(3)
    expect(() =>
      ops.tidy(() => {
        ops.upload(normals(6, 1), 2, 3)
        throw new Error('stopped')
      }),
    ).toThrow('stopped')
    expect(tf.memory().numTensors).toBe(before)
  })

  it('refuse more tokens than a cache has room for, and a cache that was closed', async () => {
    const shape = { heads: 1, kvHeads: 1, headDim: 2, scale: 1, softCap: undefined, window: undefined }
    const before = tf.memory().numTensors
    const cache = ops.openCache(1, 3, shape)
    const attend = (length: number, sequences = 1) =>
      ops.tidy(() => {
        const x = upload(ops, normalMatrix(length * sequences, 2, 1))
        return ops.read(ops.attend(x, x, x, { sequences, length, position: 0 }, shape, cache)).length
      })
    expect(attend(2)).toBe(4)
    expect(cache.positions).toBe(2)
    expect(await rejectionOf(() => attend(2))).toBeInstanceOf(ShapeError)
    expect(await rejectionOf(() => attend(1, 2))).toBeInstanceOf(ShapeError)
    expect(attend(1)).toBe(2)
    ops.closeCache(cache)
    expect(await rejectionOf(() => attend(1))).toBeInstanceOf(ShapeError)
    expect(tf.memory().numTensors).toBe(before)
  })
})

it('the engines agree on a whole block of operations', async () => {
  const weights = [randomLinear('q', 12, 10, 1), randomNorm('rms', 3, 2, { runs: 4 })] as const
  const given: OpCase = {
    inputs: [normalMatrix(7, 10, 3)],
    weights,
    run: (on, [x]) => {
      const heads = on.norm(on.linear(x, weights[0]), weights[1])
      return on.gate(heads, on.softCap(heads, 2), 'gelu')
    },
  }
  const results: Float32Array[] = []
  for (const engine of engines) {
    await startEngine(engine)
    results.push(computed(given).values)
  }
  for (const result of results) expect(largestDifference(result, results[0])).toBeLessThan(1e-6)
})
