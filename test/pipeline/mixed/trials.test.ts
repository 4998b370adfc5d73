import { describe, expect, it } from 'vitest'
import { HessianAccumulator, matrix, quantizeLayer, reconstructionError } from '../../../src/index.js'
import { resolveLayoutOptions } from '../../../src/packing/layout-options.js'
import { dequantizeLayer } from '../../../src/packing/vq-layer.js'
import { layerCandidates } from '../../../src/pipeline/mixed/candidates.js'
import { tryCandidates } from '../../../src/pipeline/mixed/trials.js'
import { randomGenerator, randomNormal } from '../../../src/random.js'

const [rows, cols, tokens] = [64, 96, 400]
const random = randomGenerator(3)
const normals = (count: number) => Float32Array.from({ length: count }, () => randomNormal(random))
const weight = matrix(rows, cols, normals(rows * cols))
const accumulator = new HessianAccumulator(cols)
const inputs = normals(tokens * cols)
for (let i = 0; i < inputs.length; i++) inputs[i] *= 1 + (i % cols) / 8
accumulator.add(matrix(tokens, cols, inputs))
const hessian = accumulator.hessian()
const candidates = layerCandidates(rows, cols, resolveLayoutOptions({}), 2.5)

describe('tryCandidates', () => {
  it('comes near the order and the ratios of the errors that the layer would have in earnest', async () => {
    const { errors } = await tryCandidates(weight, hessian, candidates, {}, { name: 'layer' })
    expect(errors.map((sizes) => sizes.length)).toEqual(candidates.map((sizes) => sizes.length))
    const ratios: number[] = []
    for (const [list, sizes] of candidates.entries()) {
      for (const [i, { bits, bpv }] of sizes.entries()) {
        const earnest = dequantizeLayer(await quantizeLayer(weight, hessian, { bits, bpv }))
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
    const { errors, trials } = await tryCandidates(weight, hessian, candidates, {}, { name: 'layer' })
    for (const [i, { error, change }] of trials.entries()) {
      const values = weight.data.map((value, at) => value + change[at])
      const { relative } = reconstructionError(weight, matrix(rows, cols, values), hessian)
      expect(relative / error).toBeCloseTo(1, 4)
      expect(errors[i].at(-1)! / error).toBeCloseTo(1, 10)
    }
  })

  it('gives the same for the same seed', async () => {
    const again = () => tryCandidates(weight, hessian, candidates.slice(0, 2), { seed: 4 }, { name: 'layer' })
    expect((await again()).errors).toEqual((await again()).errors)
  })
})
