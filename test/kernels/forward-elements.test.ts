import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ElementActivation, ForwardKernels, NormTask } from '../../src/kernels/forward-contract.js'
import { referenceActivations } from '../../src/kernels/reference/activation.js'
import { referenceForwardKernels } from '../../src/kernels/reference/forward.js'
import { normals } from '../support/random-matrix.js'
import {
  builds,
  largestGap,
  onThreads,
  startForwardKernels,
  unwritten,
  withArrays,
  withinLarger,
} from './forward-arrays.js'

const activations: readonly ElementActivation[] = ['silu', 'gelu', 'gelu-tanh', 'relu']
const notFinite = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
const seeds = fc.nat(1e6)
const lengths = fc.integer({ min: 1, max: 300 })

interface NormShape extends Omit<NormTask, 'scale' | 'shift' | 'x' | 'y'> {
  readonly scaleRuns: number
  readonly isShifted: boolean
  readonly mean: number
  readonly seed: number
}

const normShapes: fc.Arbitrary<NormShape> = fc
  .record({
    rows: fc.integer({ min: 1, max: 20 }),
    scaleRuns: fc.integer({ min: 1, max: 3 }),
    size: fc.integer({ min: 1, max: 70 }),
    kind: fc.constantFrom<'rms' | 'layer'>('rms', 'layer'),
    epsilon: fc.constantFrom(1e-5, 1e-6),
    isShifted: fc.boolean(),
    mean: fc.constantFrom(0, 3, 1000),
    seed: seeds,
  })
  .map(({ rows, ...shape }) => ({ ...shape, runs: rows * shape.scaleRuns }))

function normInputs({ runs, size, scaleRuns, isShifted, mean, seed }: NormShape) {
  const scale = normals(scaleRuns * size, seed + 1)
  const shift = isShifted ? normals(scaleRuns * size, seed + 2) : undefined
  return { x: normals(runs * size, seed, 3).map((x) => x + mean), scale, shift }
}

function normalize(kernels: ForwardKernels, shape: NormShape, isInPlace = false): Float32Array {
  const { x, scale, shift } = normInputs(shape)
  return withArrays(kernels, [x, unwritten(x.length)], (from, other) => {
    const y = isInPlace ? from : other
    kernels.normalize({ ...shape, scale, shift, x: from, y })
    return y.slice()
  })
}

function gate(kernels: ForwardKernels, activation: ElementActivation, length: number, seed: number) {
  const inputs = [normals(length, seed, 8), normals(length, seed + 1), unwritten(length)]
  return withArrays(kernels, inputs, (left, right, y) => {
    kernels.gate(activation, left, right, y)
    return y.slice()
  })
}

function activate(kernels: ForwardKernels, activation: ElementActivation, values: ArrayLike<number>) {
  return withinLarger(kernels, values, (x) => kernels.activate(activation, x, x))
}

/** How far `actual` is off in units of what the contract allows, at most. */
function activationGap(activation: ElementActivation, inputs: Float32Array, actual: Float32Array): number {
  let gap = 0
  for (const [i, x] of inputs.entries()) {
    const expected = referenceActivations[activation](x)
    const allowed = 2 ** -20 * Math.max(Math.abs(expected), 2 ** -10 * Math.abs(x))
    if (actual[i] !== expected) gap = Math.max(gap, Math.abs(actual[i] - expected) / allowed)
  }
  return gap
}

describe('the reference', () => {
  it('knows the values of the error function', () => {
    // gelu(x) = x (1 + erf(x / sqrt(2))) / 2, by an integral of the density of the normal distribution
    for (const x of [-6, -3, -2.8, -1, 0, 0.5, 2, 2.9, 5]) {
      const steps = 20_000
      const step = (x + 12) / steps
      let integral = 0
      for (let i = 0; i <= steps; i++) {
        const weight = i === 0 || i === steps ? 1 : i % 2 === 1 ? 4 : 2
        integral += weight * Math.exp(-((-12 + i * step) ** 2) / 2)
      }
      const share = (integral * step) / 3 / Math.sqrt(2 * Math.PI)
      expect(referenceActivations.gelu(x)).toBeCloseTo(x * share, 12)
    }
  })
})

describe.each(builds)('what comes between products, %s build', (build) => {
  const { pool, kernels } = startForwardKernels(build)

  it('normalizes as the reference, by runs whose scales repeat, wherever the mean lies', () => {
    fc.assert(
      fc.property(normShapes, fc.boolean(), (shape, isInPlace) => {
        const expected = normalize(referenceForwardKernels, shape)
        const actual = normalize(kernels, shape, isInPlace)
        const { runs, size } = shape
        for (let run = 0; run < runs; run++) {
          const own = expected.subarray(run * size, (run + 1) * size)
          const largest = own.reduce((most, y) => Math.max(most, Math.abs(y)), 0)
          const gap = own.reduce((most, y, i) => Math.max(most, Math.abs(y - actual[run * size + i])), 0)
          expect(gap).toBeLessThanOrEqual(2 ** -21 * largest)
        }
        expect(actual.every(Number.isFinite)).toBe(true)
      }),
    )
  })

  it.each(activations)('activates by %s within the bound, for small and large values', (activation) => {
    fc.assert(
      fc.property(lengths, fc.constantFrom(0.01, 1, 4, 30), seeds, (length, scale, seed) => {
        const inputs = normals(length, seed, scale)
        expect(activationGap(activation, inputs, activate(kernels, activation, inputs))).toBeLessThan(1)
      }),
    )
    // every 512th float32 of a stretch where all of them bend
    const dense = Float32Array.from({ length: 2 ** 18 }, (_, i) => -16 + i * 2 ** -13)
    expect(activationGap(activation, dense, activate(kernels, activation, dense))).toBeLessThan(1)
    const extremes = Float32Array.of(-3e38, -1e30, -300, -88, -87, -1e-30, 0, 1e-30, 87, 88, 300, 1e30, 3e38)
    expect(activationGap(activation, extremes, activate(kernels, activation, extremes))).toBeLessThan(1)
  })

  it.each(activations)('gates by %s as the reference', (activation) => {
    fc.assert(
      fc.property(lengths, seeds, (length, seed) => {
        const expected = gate(referenceForwardKernels, activation, length, seed)
        expect(largestGap(gate(kernels, activation, length, seed), expected)).toBeLessThan(2 ** -19)
      }),
    )
  })

  it('adds and caps as the reference, in place and beside', () => {
    fc.assert(
      fc.property(lengths, seeds, fc.constantFrom(1, 0.22, -3), (length, seed, factor) => {
        const [x, added] = [normals(length, seed), normals(length, seed + 1)]
        const sum = (of: ForwardKernels) =>
          withArrays(of, [x, added, unwritten(length)], (left, right, y) => {
            of.add(left, right, factor, y)
            of.add(left, right, factor, right)
            return [y.slice(), right.slice()]
          })
        for (const actual of sum(kernels)) {
          expect(largestGap(actual, sum(referenceForwardKernels)[0])).toBeLessThan(2 ** -21)
        }
        const cap = 10 * Math.abs(factor)
        const wide = normals(length, seed, 30)
        const capped = (of: ForwardKernels) => withinLarger(of, wide, (y) => of.softCap(y, cap, y))
        const expected = capped(referenceForwardKernels)
        const gap = capped(kernels).reduce((most, y, i) => Math.max(most, Math.abs(y - expected[i])), 0)
        expect(gap).toBeLessThan(2 ** -20 * cap)
      }),
    )
  })

  it('lets NaN and infinity through', () => {
    for (const bad of notFinite) {
      for (const of of [kernels, referenceForwardKernels]) {
        for (const activation of activations) {
          expect([...activate(of, activation, [1, bad])].map(Number.isFinite)).toEqual([true, false])
        }
        const capped = withinLarger(of, [1, bad], (x) => of.softCap(x, 30, x))
        expect([...capped].map(Number.isFinite)).toEqual([true, false])
        const sum = withinLarger(of, [1, bad], (x) => of.add(x, x, 0.5, x))
        expect([...sum].map(Number.isFinite)).toEqual([true, false])
        for (const kind of ['rms', 'layer'] as const) {
          const scale = Float32Array.of(1, 1)
          const sizes = { runs: 2, size: 2, kind, epsilon: 1e-5, scale, shift: undefined }
          const rows = withinLarger(of, [1, 2, bad, 2], (x) => of.normalize({ ...sizes, x, y: x }))
          expect([...rows.subarray(0, 2)].every(Number.isFinite)).toBe(true)
          expect([...rows.subarray(2)].every(Number.isFinite)).toBe(false)
        }
      }
    }
  })

  it('gives the same bits on 1, 2 and 3 threads', () => {
    const shape = { runs: 300, size: 200, kind: 'layer', epsilon: 1e-5 } as const
    const results = onThreads(pool, () => [
      normalize(kernels, { ...shape, scaleRuns: 3, isShifted: true, mean: 1, seed: 1 }),
      gate(kernels, 'gelu', 50_000, 1),
      withinLarger(kernels, normals(50_000, 1), (x) => kernels.add(x, x, 0.3, x)),
      withinLarger(kernels, normals(50_000, 1), (x) => kernels.softCap(x, 0.3, x)),
    ])
    for (const result of results) expect(result).toEqual(results[0])
  })
})
