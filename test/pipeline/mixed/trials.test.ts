import { describe, expect, it } from 'vitest'
import { randomGenerator, randomNormal } from '../../../src/common/random.js'
import {
  HessianAccumulator,
  matrix,
  packedBytes,
  packLayer,
  quantizeLayer,
  reconstructionError,
} from '../../../src/index.js'
import { resolveLayoutOptions } from '../../../src/packing/layout-options.js'
import { dequantizeLayer } from '../../../src/packing/vq-layer.js'
import { layerCandidates } from '../../../src/pipeline/mixed/candidates.js'
import { tryCandidates } from '../../../src/pipeline/mixed/trials.js'

const [rows, cols, tokens] = [64, 96, 400]
const random = randomGenerator(3)
const normals = (count: number) => Float32Array.from({ length: count }, () => randomNormal(random))
const weight = matrix(rows, cols, normals(rows * cols))
const accumulator = new HessianAccumulator(cols)
const inputs = normals(tokens * cols)
for (let i = 0; i < inputs.length; i++) inputs[i] *= 1 + (i % cols) / 8
accumulator.add(matrix(tokens, cols, inputs))
const hessian = accumulator.hessian()
const plain = { trellisBits: 0 }
const candidates = layerCandidates(rows, cols, resolveLayoutOptions({}), 2.5)

describe('tryCandidates', () => {
  it('comes near the order and the ratios of the errors that the layer would have in earnest', async () => {
    const { errors } = await tryCandidates(weight, hessian, candidates, plain, { name: 'layer' })
    expect(errors.map((sizes) => sizes.length)).toEqual(candidates.map((sizes) => sizes.length))
    const ratios: number[] = []
    for (const [list, sizes] of candidates.entries()) {
      for (const [i, { bits, bpv }] of sizes.entries()) {
        const earnest = dequantizeLayer(await quantizeLayer(weight, hessian, { ...plain, bits, bpv }))
        ratios.push(errors[list][i] / reconstructionError(weight, earnest, hessian).relative)
      }
    }
    expect(ratios.length).toBeGreaterThan(6)
    expect(Math.min(...ratios)).toBeGreaterThan(0.95)
    expect(Math.max(...ratios)).toBeLessThan(1.35)
    const flat = errors.flat()
    expect(flat).toEqual(flat.toSorted((a, b) => b - a))
  })

  it('gives for each number of bits what the trial with the smallest groups changed', async () => {
    const { errors, trials } = await tryCandidates(weight, hessian, candidates, plain, { name: 'layer' })
    for (const [i, { error, change }] of trials.entries()) {
      const values = weight.data.map((value, at) => value + change[at])
      const { relative } = reconstructionError(weight, matrix(rows, cols, values), hessian)
      expect(relative / error).toBeCloseTo(1, 4)
      expect(errors[i].at(-1)! / error).toBeCloseTo(1, 10)
    }
  })

  it('of a trellis follow from one trial, near the errors in earnest too', async () => {
    const options = { trellisBits: 8, bpv: 2.25 }
    const [list] = layerCandidates(rows, cols, resolveLayoutOptions(options), 2.25)
    expect(list.length).toBeGreaterThan(10)
    const { errors, trials } = await tryCandidates(weight, hessian, [list], options, { name: 'layer' })
    expect(trials).toHaveLength(1)
    const ratios: number[] = []
    for (const [i, { bits, bpv, bytes }] of list.entries()) {
      const layer = await quantizeLayer(weight, hessian, { trellisBits: 8, bpv })
      expect(packedBytes(packLayer(layer))).toBe(bytes)
      expect(layer.layout.bits).toBe(bits)
      const earnest = reconstructionError(weight, dequantizeLayer(layer), hessian).relative
      if (bits >= 1 && bits <= 4) ratios.push(errors[0][i] / earnest)
    }
    // a common factor changes no choice
    expect(Math.max(...ratios) / Math.min(...ratios)).toBeLessThan(1.6)
  })

  it('gives the same for the same seed', async () => {
    const again = () =>
      tryCandidates(weight, hessian, candidates.slice(0, 2), { ...plain, seed: 4 }, { name: 'layer' })
    expect((await again()).errors).toEqual((await again()).errors)
  })
})
