import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ShapeError } from '../../../src/common/errors.js'
import type { KernelName } from '../../../src/kernels/contract.js'
import { useKernels } from '../../../src/kernels/kernels.js'
import { bestBuild } from '../../../src/kernels/wasm/runtime/runtime.js'
import { kernelOps } from '../../../src/model/ops/kernels/kernel-ops.js'
import type { Ops } from '../../../src/model/ops/ops.js'
import { expectClose, rejectionOf } from '../../support/tolerance.js'
import {
  attentionCase,
  cachedCase,
  forwardCases,
  normalMatrix,
  type OpCase,
  opCases,
  randomLinear,
  type TestMatrix,
} from './cases.js'
import { type Doubles, referenceOps } from './reference-ops.js'

const builds = [...new Set<KernelName>(['reference', 'baseline', bestBuild()])]

const upload = <T>(on: Ops<T>, { rows, cols, values }: TestMatrix) => on.upload(values, rows, cols)

function computed({ inputs, run }: OpCase): { values: Float32Array; shape: readonly number[] } {
  return kernelOps.tidy(() => {
    const uploaded = inputs.map((input) => upload(kernelOps, input))
    const output = run(kernelOps, uploaded)
    // none of the operations changes its operands
    for (const [i, x] of uploaded.entries()) {
      expect(kernelOps.read(x).subarray(0, inputs[i].values.length)).toEqual(inputs[i].values)
    }
    const shape = kernelOps.shape(output)
    return { values: kernelOps.read(output).slice(0, shape[0] * shape[1]), shape }
  })
}

function expectAsExpected(given: OpCase): void {
  const { values, shape } = computed(given)
  const exact: Doubles = given.run(
    referenceOps,
    given.inputs.map((input) => upload(referenceOps, input)),
  )
  expect(shape).toEqual([exact.rows, exact.cols])
  const largest = exact.values.reduce((a, b) => Math.max(a, Math.abs(b)), 0)
  expectClose(values, exact.values, 4e-6 * (1 + largest))
}

describe.each(builds)('operations on the kernels %s', (build) => {
  beforeAll(() => {
    useKernels(build)
  })

  afterAll(() => {
    useKernels(bestBuild())
  })

  it.each(Object.entries({ ...opCases, ...forwardCases }))('equal float64: %s', (_, cases) => {
    fc.assert(fc.property(cases, expectAsExpected), { numRuns: 40 })
  })

  it.each([undefined, 40, 200])('equal float64 in long attention, window %s', (window) => {
    const shape = { heads: 4, kvHeads: 2, headDim: 6, scale: 0.5, softCap: 3, window }
    expectAsExpected(attentionCase(shape, 2, 300, 1))
    expectAsExpected(cachedCase(shape, 2, [140, 1, 150, 1], 1))
  })

  it('are the same with weights that are held', () => {
    const weights = randomLinear('a', 5, 7, 1)
    const held = kernelOps.hold(weights)
    const products = [weights, held].map((own) =>
      kernelOps.tidy(() => {
        const x = upload(kernelOps, normalMatrix(2, 7, 3))
        return kernelOps.read(kernelOps.linear(x, own)).slice(0, 10)
      }),
    )
    expect(products[1]).toEqual(products[0])
    kernelOps.release(held)
    kernelOps.release(held)
    kernelOps.release(weights)
  })

  it('refuse more tokens than a cache has room for, and a cache that was closed', async () => {
    const shape = { heads: 1, kvHeads: 1, headDim: 2, scale: 1, softCap: undefined, window: undefined }
    const cache = kernelOps.openCache(1, 3, shape)
    const attend = (length: number, sequences = 1) =>
      kernelOps.tidy(() => {
        const x = upload(kernelOps, normalMatrix(length * sequences, 2, 1))
        return kernelOps.shape(kernelOps.attend(x, x, x, { sequences, length, position: 0 }, shape, cache))[0]
      })
    expect(attend(2)).toBe(2)
    expect(cache.positions).toBe(2)
    expect(await rejectionOf(() => attend(2))).toBeInstanceOf(ShapeError)
    expect(await rejectionOf(() => attend(1, 2))).toBeInstanceOf(ShapeError)
    expect(attend(1)).toBe(1)
    kernelOps.closeCache(cache)
    expect(await rejectionOf(() => attend(1))).toBeInstanceOf(ShapeError)
  })
})
