import { describe, expect, it } from 'vitest'
import { randomGenerator } from '../../../src/common/random.js'
import { allocate } from '../../../src/pipeline/mixed/allocation.js'
import { type MeasuredLayer, trustedEffects } from '../../../src/pipeline/mixed/trust.js'

/** Layers whose errors fall to a quarter with each bit, in sixteenths of a bit; `harm` is their effect at 2 bits. */
function layersOf(harms: readonly number[], weights: readonly number[]): MeasuredLayer[] {
  return harms.map((harm, i) => {
    const bits = Array.from({ length: 97 }, (_, j) => 0.5 + j / 16)
    return {
      weights: weights[i],
      candidates: bits.map((b) => ({ bits: b, bpv: b, bytes: (b * weights[i]) / 8 })),
      effects: bits.map((b) => harm * 4 ** (2 - b)),
    }
  })
}

/** The bits that each layer is given of 2 on average. */
function shared(layers: readonly MeasuredLayer[], effects: readonly (readonly number[])[]): number[] {
  const budget = layers.reduce((sum, { weights }) => sum + weights / 4, 0)
  const choices = layers.map(({ candidates }, i) =>
    candidates.map(({ bytes }, j) => ({ bytes, effect: effects[i][j] })),
  )
  return allocate(choices, budget)!.map((choice, i) => layers[i].candidates[choice].bits)
}

const random = randomGenerator(3)
const weights = Array.from({ length: 12 }, () => 128 * (1 + Math.floor(8 * random())))
const harms = Array.from({ length: 12 }, () => 4 ** (2 * random() - 1))
const scaled = (sum: number) => {
  const total = harms.reduce((a, b) => a + b, 0)
  return harms.map((harm) => (harm * sum) / total)
}

describe('trustedEffects', () => {
  it('leave effects as they are where all together are next to nothing', () => {
    const layers = layersOf(scaled(1e-6), weights)
    expect(shared(layers, trustedEffects(layers, 2))).toEqual(
      shared(
        layers,
        layers.map(({ effects }) => effects),
      ),
    )
  })

  it('take layers half as far from the bits of the budget where these cost a nat', () => {
    const layers = layersOf(scaled(1), weights)
    const whole = shared(
      layers,
      layers.map(({ effects }) => effects),
    )
    const half = shared(layers, trustedEffects(layers, 2))
    for (const [i, bits] of half.entries()) expect(Math.abs(bits - 2 - (whole[i] - 2) / 2)).toBeLessThan(0.2)
    expect(Math.max(...whole.map((bits) => Math.abs(bits - 2)))).toBeGreaterThan(0.8)
  })

  it('give all layers the same where they cost far more', () => {
    const layers = layersOf(scaled(1e4), weights)
    for (const bits of shared(layers, trustedEffects(layers, 2))) expect(Math.abs(bits - 2)).toBeLessThan(0.1)
  })

  it('keep a layer that does no harm at none', () => {
    const layers = layersOf([0, 1, 2], [128, 128, 256])
    const [first, second] = trustedEffects(layers, 2)
    expect(new Set(first)).toEqual(new Set([0]))
    expect(second.every((effect) => effect > 0)).toBe(true)
  })
})
