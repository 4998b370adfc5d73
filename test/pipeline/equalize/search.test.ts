import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { roundActivations } from '../../../src/activations/rounding.js'
import { matrix } from '../../../src/common/matrix.js'
import { randomGenerator } from '../../../src/common/random.js'
import { quantizeRtn, type ScalarOptions } from '../../../src/index.js'
import { encodeBfloats, halfToFloat } from '../../../src/kernels/half.js'
import {
  cutWindows,
  openModel,
  type QuantizeModelOptions,
  quantizeModel,
  scoreModels,
  startEngine,
} from '../../../src/model.js'
import { resolveActivations } from '../../../src/pipeline/activations/options.js'
import { shortFactors } from '../../../src/pipeline/equalize/factors.js'
import { inputSampler } from '../../../src/pipeline/equalize/input-samples.js'
import { roundingError, sampledLayer } from '../../../src/pipeline/equalize/rounding-error.js'
import { gaussianMatrix } from '../../support/random-matrix.js'
import { makeMassive, tinyText, writeTinyModel } from '../../support/tiny-model.js'

let folder: string
beforeAll(async () => {
  await startEngine('wasm')
  folder = await mkdtemp(join(tmpdir(), 'gptvq-search-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** The error by its definition, weight by weight; and the same of products without their signs, which rounding adds to. */
function plainError(
  weight: Float32Array,
  inputs: Float32Array,
  [rows, cols, tokens]: readonly number[],
  { r, c }: { readonly r: Float64Array; readonly c: Float64Array },
  options: ScalarOptions,
  bits: number,
): { readonly error: number; readonly unsigned: number } {
  const scaled = weight.map((value, i) => value * r[Math.floor(i / cols)] * c[i % cols])
  const { codes, scales, zeros } = quantizeRtn(matrix(rows, cols, scaled), options)
  const divided = inputs.map((value, i) => value / c[i % cols])
  const rounding = { bits, symmetric: false }
  const coded = roundActivations(divided, cols, rounding)
  const losses: number[] = []
  const squares: number[] = []
  const unsigned: number[] = []
  for (let t = 0; t < tokens; t++) {
    let [loss, square, whole] = [0, 0, 0]
    for (let o = 0; o < rows; o++) {
      let [found, expected, sum] = [0, 0, 0]
      for (let j = 0; j < cols; j++) {
        found += (coded[t * cols + j] * (codes[o * cols + j] - zeros[o]) * halfToFloat(scales[o])) / r[o]
        expected += inputs[t * cols + j] * weight[o * cols + j]
        sum += Math.abs(inputs[t * cols + j] * weight[o * cols + j])
      }
      loss += (found - expected) ** 2
      square += expected ** 2
      whole += sum ** 2
    }
    losses.push(loss)
    squares.push(square)
    unsigned.push(whole)
  }
  const median = squares.toSorted((a, b) => a - b)[tokens >> 1]
  const mean = (values: readonly number[]) =>
    values.reduce((sum, value, t) => sum + value / (squares[t] + median), 0) / tokens
  return { error: mean(losses), unsigned: mean(unsigned) }
}

describe('the error of a layer', () => {
  it('is that of its outputs, with rounded weights and inputs', () => {
    const shape = fc.tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 2, max: 20 }))
    fc.assert(
      fc.property(shape, fc.integer({ min: 1, max: 12 }), fc.nat(), ([rows, cols], tokens, seed) => {
        const weight = gaussianMatrix(rows, cols, seed)
        const values = gaussianMatrix(tokens, cols, seed + 1).data
        const random = randomGenerator(seed)
        const factors = (count: number) => Float64Array.from({ length: count }, () => 0.3 + 3 * random())
        const [r, c] = [factors(rows), factors(cols)]
        const options: ScalarOptions = { bits: 4, granularity: 'channel', scaleSearch: 'mse' }
        const sample = { width: cols, values, low: new Float32Array(cols), high: new Float32Array(cols) }
        const layer = sampledLayer({ name: 'layer', weight, options, sample })
        const settings = resolveActivations({ activationBits: 6 })
        const { error, unsigned } = plainError(
          weight.data,
          values,
          [rows, cols, tokens],
          { r, c },
          options,
          6,
        )
        const found = roundingError(layer, { rows: r, columns: c }, settings)
        expect(Math.abs(found - error)).toBeLessThanOrEqual(1e-6 * (1 + unsigned))
      }),
    )
  })

  it('of a static range counts the largest value of all tokens, drawn or not', () => {
    const [rows, cols, tokens] = [4, 6, 8]
    const values = gaussianMatrix(tokens, cols, 1).data
    const ones = { rows: new Float64Array(rows).fill(1), columns: new Float64Array(cols).fill(1) }
    const errorWith = (largest: number) => {
      const sample = {
        ...{ width: cols, values },
        low: new Float32Array(cols),
        high: new Float32Array(cols).fill(largest),
      }
      const options: ScalarOptions = { bits: 8, granularity: 'channel' }
      const layer = sampledLayer({ name: 'layer', weight: gaussianMatrix(rows, cols, 2), options, sample })
      return roundingError(layer, ones, resolveActivations({ activationBits: 8, activationRange: 'minmax' }))
    }
    expect(errorWith(400)).toBeGreaterThan(100 * errorWith(0))
  })
})

describe('samples', () => {
  it('are all tokens where they are few, else tokens that were seen, the same for layers that read the same', () => {
    const { data } = gaussianMatrix(100, 3, 5)
    const sampler = inputSampler((name) => (name === 'none' ? 0 : name === 'few' ? 7 : 200), 0)
    const parts = [data.subarray(0, 90), data.subarray(90)]
    for (const part of parts) {
      for (const name of ['all', 'few', 'none']) sampler.onActivations({ name, width: 3 }, part)
    }
    const samples = sampler.take()
    expect([...samples.keys()]).toEqual(['all', 'few'])
    expect(samples.get('all')!.values).toEqual(data)
    const few = samples.get('few')!
    expect(few.values.length).toBe(7 * 3)
    const seen = Array.from({ length: 100 }, (_, t) => data.slice(3 * t, 3 * t + 3).join())
    const kept = Array.from({ length: 7 }, (_, t) => few.values.slice(3 * t, 3 * t + 3).join())
    expect(new Set(kept).size).toBe(7)
    expect(kept.every((token) => seen.includes(token))).toBe(true)
    for (let j = 0; j < 3; j++) {
      const channel = Array.from(data).filter((_, i) => i % 3 === j)
      expect(few.low[j]).toBe(Math.min(...channel))
      expect(few.high[j]).toBe(Math.max(...channel))
    }
    expect(sampler.take().size).toBe(0)
    for (const part of parts) sampler.onActivations({ name: 'few', width: 3 }, part)
    expect(sampler.take().get('few')).toEqual(few)
  })

  it('have early tokens as often as late ones', () => {
    const tokens = Float32Array.from({ length: 4000 }, (_, t) => t)
    const sampler = inputSampler(() => 400, 3)
    sampler.onActivations({ name: 'layer', width: 1 }, tokens)
    const { values } = sampler.take().get('layer')!
    const early = values.filter((token) => token < 2000).length
    // four standard deviations of a fair draw
    expect(Math.abs(early - 200)).toBeLessThan(40)
  })
})

describe('factors of a norm', () => {
  it('leave weights that a bfloat16 holds, and are off by its rounding at most', () => {
    const asked = fc.double({ min: 0.01, max: 100, noNaN: true })
    const weight = fc.float({ min: Math.fround(0.01), max: 100, noNaN: true })
    fc.assert(
      fc.property(asked, weight, fc.constantFrom(0, 1), (factor, value, offset) => {
        const weights = Float32Array.of(value)
        const [found] = shortFactors(Float64Array.of(factor), weights, offset)
        const stored = Float32Array.of((weights[0] + offset) / found - offset)
        const bits = new Uint16Array(1)
        encodeBfloats(stored, bits)
        const held = new Float32Array(new Uint32Array([bits[0] << 16]).buffer)[0]
        // what is left of a weight near 0 beside the 1 that is added has float32's rounding
        expect(Math.abs(held - stored[0])).toBeLessThanOrEqual(offset === 0 ? 0 : 2 ** -23)
        expect(Math.abs(found / factor - 1)).toBeLessThan(offset === 0 ? 2 ** -8 : 0.5)
      }),
    )
  })

  it('leave a weight of 0 alone', () => {
    expect([...shortFactors(Float64Array.of(3, 3), Float32Array.of(0, 1), 0)]).toEqual([1, 512 / 171])
  })
})

describe('a model with massive activations', () => {
  it.each<[string, Partial<QuantizeModelOptions>]>([
    ['static ranges', { scheme: 'w4a8', activationRange: 'minmax' }],
    ['ranges of each token', { scheme: 'w4a8' }],
    ['one scale for all weights of a layer', { scheme: 'w8a8', granularity: 'tensor' }],
  ])('loses less when it is equalized by auto: %s', async (name, options) => {
    const model = join(folder, name)
    await writeTinyModel(model, { tensors: (tensors) => makeMassive(tensors, 16) })
    const tokens = (seed: number) => Int32Array.from(Buffer.from(tinyText(640, seed)))
    const calibration = { sequences: cutWindows(tokens(1), 64, 8) }
    const full = await openModel(model)
    const equalized = { ...options, calibration, equalization: 'auto' } as const
    const plain = { ...options, ...(options.activationRange === 'minmax' && { calibration }) }
    const opened = []
    for (const [i, own] of [plain, equalized].entries()) {
      const output = join(folder, `${name}-${i}`)
      await quantizeModel({ model, output, ...own })
      opened.push(await openModel(output))
    }
    const windows = cutWindows(tokens(2), 64, 8)
    const { candidates } = await scoreModels({ reference: full, candidates: opened, windows })
    for (const { close } of [full, ...opened]) await close()
    expect(candidates[1].klDivergence).toBeLessThan(candidates[0].klDivergence!)
  })
})
