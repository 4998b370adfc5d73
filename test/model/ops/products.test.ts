import * as tf from '@tensorflow/tfjs-core'
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { randomGenerator } from '../../../src/common/random.js'
import { kernels, setThreads, threadCount } from '../../../src/kernels/kernels.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { useEngineProducts, useOwnProducts } from '../../../src/model/ops/tensors/products.js'
import { FLOAT32_ROUNDING } from '../../support/tolerance.js'

const threads = threadCount()

beforeAll(async () => {
  await startEngine('wasm')
})

afterEach(() => {
  useOwnProducts()
  setThreads(threads)
})

afterAll(() => setThreads(threads))

function randomValues(size: number, seed: number): Float32Array {
  const random = randomGenerator(seed)
  return Float32Array.from({ length: size }, () => 2 * random() - 1)
}

interface Stack {
  readonly shape: number[]
  readonly values: Float32Array
}

function randomStack(shape: number[], seed: number): Stack {
  return { shape, values: randomValues(tf.util.sizeFromShape(shape), seed) }
}

/** Element (i, j) of the matrix that position `at` of the broadcast stack refers to. */
function element({ shape, values }: Stack, at: readonly number[], i: number, j: number): number {
  const lead = shape.slice(0, -2)
  const own = at.slice(at.length - lead.length)
  const index = lead.reduce((sum, size, axis) => sum * size + (size === 1 ? 0 : own[axis]), 0)
  const [rows, cols] = shape.slice(-2)
  return values[(index * rows + i) * cols + j]
}

/** The product in float64, and the same with absolute values, which bounds what rounding can do. */
function oracle(a: Stack, b: Stack, transposeA: boolean, transposeB: boolean, shape: readonly number[]) {
  const k = a.shape.at(transposeA ? -2 : -1)!
  const [m, n] = shape.slice(-2)
  const size = tf.util.sizeFromShape([...shape])
  const product = new Float64Array(size)
  const bound = new Float64Array(size)
  for (let index = 0; index < size; index++) {
    const j = index % n
    const i = Math.floor(index / n) % m
    const at = tf.util.indexToLoc(Math.floor(index / (n * m)), shape.length - 2, leadStrides(shape))
    for (let p = 0; p < k; p++) {
      const x = transposeA ? element(a, at, p, i) : element(a, at, i, p)
      const y = transposeB ? element(b, at, j, p) : element(b, at, p, j)
      product[index] += x * y
      bound[index] += Math.abs(x * y)
    }
    bound[index] *= (k + 8) * FLOAT32_ROUNDING
  }
  return { product, bound }
}

const leadStrides = (shape: readonly number[]) => tf.util.computeStrides(shape.slice(0, -2) as number[])

function product(a: Stack, b: Stack, transposeA = false, transposeB = false) {
  return tf.tidy(() => {
    const result = tf.matMul(
      tf.tensor(a.values, a.shape),
      tf.tensor(b.values, b.shape),
      transposeA,
      transposeB,
    )
    return { shape: result.shape, values: result.dataSync<'float32'>() }
  })
}

const calls = () => vi.spyOn(kernels(), 'gemm')

const size = fc.integer({ min: 1, max: 70 })
/** Leading dimensions of both operands that broadcast to each other. */
const leads = fc
  .array(fc.tuple(fc.integer({ min: 1, max: 3 }), fc.constantFrom('both', 'left', 'right')), { maxLength: 2 })
  .chain((axes) =>
    fc.nat(axes.length).map((dropped) => ({
      left: axes.map(([count, side]) => (side === 'right' ? 1 : count)),
      right: axes.map(([count, side]) => (side === 'left' ? 1 : count)).slice(dropped),
    })),
  )

describe('matrix products of the wasm engine', () => {
  it('equal float64 for random shapes, transposes, stacks and broadcast, alike on 1 and 2 threads', () => {
    const gemm = calls()
    fc.assert(
      fc.property(
        size,
        size,
        size,
        leads,
        fc.boolean(),
        fc.boolean(),
        fc.nat(1e6),
        (m, n, k, lead, ta, tb, seed) => {
          const a = randomStack([...lead.left, ...(ta ? [k, m] : [m, k])], seed)
          const b = randomStack([...lead.right, ...(tb ? [n, k] : [k, n])], seed + 1)
          setThreads(1)
          const one = product(a, b, ta, tb)
          setThreads(2)
          const two = product(a, b, ta, tb)
          expect(two).toEqual(one)
          expect(one.shape.slice(-2)).toEqual([m, n])
          const expected = oracle(a, b, ta, tb, one.shape)
          const isWithin = (value: number, i: number) =>
            Math.abs(value - expected.product[i]) <= expected.bound[i]
          expect(one.values.every(isWithin)).toBe(true)
        },
      ),
      { numRuns: 60 },
    )
    expect(gemm.mock.calls.length).toBeGreaterThan(60)
    expect(new Set(gemm.mock.calls.map(([form]) => form))).toEqual(new Set(['AB', 'ABt', 'AtB']))
    gemm.mockRestore()
  })

  it('give a row the same result whatever other rows are multiplied with it', () => {
    const b = randomStack([300, 90], 1)
    const a = randomStack([500, 300], 2)
    const whole = product(a, b).values
    const part = product({ shape: [40, 300], values: a.values.subarray(123 * 300, 163 * 300) }, b).values
    expect(part).toEqual(whole.subarray(123 * 90, 163 * 90))
  })

  it('pair the matrices of stacks that are broadcast along some axes only, which the engine does not', () => {
    const [a, b] = [randomStack([2, 1, 1, 1], 1), randomStack([2, 2, 1, 1], 2)]
    const { values } = product(a, b)
    const expected = [0, 1, 2, 3].map((i) => a.values[i >> 1] * b.values[i])
    for (const [i, value] of values.entries()) expect(value).toBeCloseTo(expected[i], 6)
  })

  it('leave to the engine what is too small to hand over', () => {
    const gemm = calls()
    product(randomStack([1, 256], 1), randomStack([256, 512], 2))
    product(randomStack([64, 8], 1), randomStack([8, 8], 2))
    expect(gemm).not.toHaveBeenCalled()
    product(randomStack([32, 64], 1), randomStack([64, 64], 2))
    expect(gemm).toHaveBeenCalledTimes(1)
    gemm.mockRestore()
  })

  it("are the engine's own again when asked, and leave no tensor behind", () => {
    const gemm = calls()
    const a = randomStack([64, 64], 1)
    const own = product(a, a)
    useEngineProducts()
    useEngineProducts()
    const before = tf.memory().numTensors
    const engine = product(a, a)
    expect(gemm).toHaveBeenCalledTimes(1)
    engine.values.forEach((value, i) => {
      expect(value).toBeCloseTo(own.values[i], 4)
    })
    useOwnProducts()
    useOwnProducts()
    product(a, a)
    expect(gemm).toHaveBeenCalledTimes(2)
    expect(tf.memory().numTensors).toBe(before)
    gemm.mockRestore()
  })

  it('refuse shapes that do not fit as the engine does', () => {
    expect(() => product(randomStack([64, 63], 1), randomStack([64, 64], 2))).toThrow(/inner shapes/i)
    expect(() => product(randomStack([2, 64, 64], 1), randomStack([3, 64, 64], 2))).toThrow(/broadcast/i)
  })
})

describe('fused matrix products', () => {
  const a = randomStack([40, 70], 1)
  const b = randomStack([70, 65], 2)
  const bias = randomValues(65, 3)

  it.each(['linear', 'relu', 'relu6', 'elu'] as const)('add a bias and apply %s', (activation) => {
    const { product: sums, bound } = oracle(a, b, false, false, [40, 65])
    const applied = {
      linear: (x: number) => x,
      relu: (x: number) => Math.max(0, x),
      relu6: (x: number) => Math.min(6, Math.max(0, x)),
      elu: (x: number) => (x < 0 ? Math.expm1(x) : x),
    }
    // the engine's own kernel wants a stack
    const values = tf.tidy(() => {
      const stack = tf.tensor3d(a.values, [1, 40, 70])
      const right = tf.tensor3d(b.values, [1, 70, 65])
      return tf
        .engine()
        .runKernel(
          tf._FusedMatMul,
          { a: stack, b: right, bias: tf.tensor1d(bias) },
          { transposeA: false, transposeB: false, activation, leakyreluAlpha: 0 },
        ) as tf.Tensor
    })
    const actual = values.dataSync<'float32'>()
    values.dispose()
    actual.forEach((value, i) => {
      const expected = applied[activation](sums[i] + bias[i % 65])
      expect(Math.abs(value - expected)).toBeLessThanOrEqual(
        bound[i] + 8 * FLOAT32_ROUNDING * (1 + Math.abs(expected)),
      )
    })
  })
})

describe('gradients', () => {
  /** The gradients of what the functions below are made of; tfjs-core registers none where it runs in Node. */
  const gradients: tf.GradConfig[] = [
    {
      kernelName: tf.BatchMatMul,
      inputsToSave: ['a', 'b'],
      gradFunc: (dy, saved) => {
        const [a, b] = saved as tf.Tensor2D[]
        const up = dy as tf.Tensor2D
        return { a: () => tf.matMul(up, b, false, true), b: () => tf.matMul(a, up, true, false) }
      },
    },
    {
      kernelName: tf.Tanh,
      outputsToSave: [true],
      gradFunc: (dy, [y]) => ({ x: () => tf.mul(dy as tf.Tensor, tf.sub(1, tf.square(y))) }),
    },
    {
      kernelName: tf.Sum,
      inputsToSave: ['x'],
      gradFunc: (dy, [x]) => ({ x: () => tf.mul(dy as tf.Tensor, tf.onesLike(x)) }),
    },
  ]
  const missing = gradients.filter(({ kernelName }) => tf.getGradient(kernelName) === undefined)

  beforeAll(() => {
    for (const gradient of missing) tf.registerGradient(gradient)
  })
  afterAll(() => {
    for (const { kernelName } of missing) tf.unregisterGradient(kernelName)
  })

  it('of two layers equal finite differences, and are computed by our products', () => {
    const gemm = calls()
    const x = randomValues(48 * 64, 1)
    const first = randomValues(64 * 64, 2).map((value) => value / 8)
    const second = randomValues(64 * 64, 3).map((value) => value / 8)
    const loss = (w1: tf.Tensor, w2: tf.Tensor) =>
      tf.sum(tf.matMul(tf.tanh(tf.matMul(tf.tensor2d(x, [48, 64]), w1 as tf.Tensor2D)), w2 as tf.Tensor2D))
    const found = tf.tidy(() =>
      tf
        .grads(loss)([tf.tensor2d(first, [64, 64]), tf.tensor2d(second, [64, 64])])
        .map((gradient) => gradient.dataSync<'float32'>()),
    )
    expect(new Set(gemm.mock.calls.map(([form]) => form))).toEqual(new Set(['AB', 'ABt', 'AtB']))
    gemm.mockRestore()
    for (const at of [0, 77, 1000, 4095]) {
      const step = 1e-4
      const moved = (weight: Float32Array, by: number) =>
        Float64Array.from(weight, (value, i) => (i === at ? value + by : value))
      const slope = (of: (by: number) => number) => (of(step) - of(-step)) / (2 * step)
      expect(found[0][at]).toBeCloseTo(
        slope((by) => plainLoss(x, moved(first, by), second)),
        4,
      )
      expect(found[1][at]).toBeCloseTo(
        slope((by) => plainLoss(x, first, moved(second, by))),
        4,
      )
    }
  })

  /** The same loss in float64. */
  function plainLoss(x: ArrayLike<number>, first: ArrayLike<number>, second: ArrayLike<number>): number {
    let sum = 0
    for (let row = 0; row < 48; row++) {
      for (let i = 0; i < 64; i++) {
        let middle = 0
        for (let p = 0; p < 64; p++) middle += x[row * 64 + p] * first[p * 64 + i]
        for (let j = 0; j < 64; j++) sum += Math.tanh(middle) * second[i * 64 + j]
      }
    }
    return sum
  }
})
