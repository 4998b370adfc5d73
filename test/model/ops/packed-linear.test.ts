import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ShapeError } from '../../../src/common/errors.js'
import type { KernelName } from '../../../src/kernels/contract.js'
import { useKernels } from '../../../src/kernels/kernels.js'
import { bestBuild } from '../../../src/kernels/wasm/runtime/runtime.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { kernelOps } from '../../../src/model/ops/kernels/kernel-ops.js'
import type { LinearWeights, Ops } from '../../../src/model/ops/ops.js'
import { tensorOps } from '../../../src/model/ops/tensors/tensor-ops.js'
import { expandedWeight, isPrepared } from '../../../src/model/ops/weight-forms.js'
import { pack, type QuantizedLayer } from '../../../src/packing/quantized-layer.js'
import { anyLayers, shapeOf } from '../../kernels/packed-weights.js'
import { normals } from '../../support/random-matrix.js'
import { expectClose } from '../../support/tolerance.js'

const builds = [...new Set<KernelName>(['reference', 'baseline', bestBuild()])]

function packedLinear(layer: QuantizedLayer, seed: number): LinearWeights {
  const { rows, cols } = shapeOf(layer)
  return { kind: 'mlp.up_proj', rows, cols, weight: pack(layer), bias: normals(rows, seed) }
}

function multiply<T>(ops: Ops<T>, weights: LinearWeights, tokens: number, seed: number): Float32Array {
  return ops.tidy(() => {
    const x = ops.upload(normals(tokens * weights.cols, seed), tokens, weights.cols)
    return ops.read(ops.linear(x, weights)).slice(0, tokens * weights.rows)
  })
}

const cases = [anyLayers, fc.integer({ min: 1, max: 7 }), fc.nat(1e6)] as const

describe.each(builds)('a packed weight on the kernels %s', (build) => {
  beforeAll(() => {
    useKernels(build)
  })

  afterAll(() => {
    useKernels(bestBuild())
  })

  it('makes the product that the expanded weight makes, held or not', () => {
    fc.assert(
      fc.property(...cases, (layer, tokens, seed) => {
        const weights = packedLinear(layer, seed)
        const dense = { ...weights, weight: expandedWeight(weights) }
        const expected = multiply(kernelOps, dense, tokens, seed)
        const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 1)
        const actual = multiply(kernelOps, weights, tokens, seed)
        expectClose(actual, expected, 1e-5 * largest)
        const held = kernelOps.hold(weights)
        expect(multiply(kernelOps, held, tokens, seed)).toEqual(actual)
        expect(kernelOps.hold(held)).toBe(held)
        kernelOps.release(held)
        kernelOps.release(held)
      }),
      { numRuns: 25 },
    )
  })

  it('is gone once it is released', () => {
    const [layer] = fc.sample(anyLayers, { numRuns: 1, seed: 2 })
    const held = kernelOps.hold(packedLinear(layer, 1))
    expect(isPrepared(held.weight)).toBe(true)
    expect(() => expandedWeight(held)).toThrow('mlp.up_proj')
    kernelOps.release(held)
    expect(() => multiply(kernelOps, held, 1, 1)).toThrow(ShapeError)
  })
})

it('tensors expand a packed weight', async () => {
  await startEngine('cpu')
  const ops = tensorOps()
  fc.assert(
    fc.property(...cases, (layer, tokens, seed) => {
      const weights = packedLinear(layer, seed)
      const dense = { ...weights, weight: expandedWeight(weights) }
      expect(multiply(ops, weights, tokens, seed)).toEqual(multiply(ops, dense, tokens, seed))
      ops.release(weights)
      ops.release(dense)
    }),
    { numRuns: 10 },
  )
})
