import { describe, expect, it } from 'vitest'
import type { RotaryDescription, RotaryScaling } from '../../../src/model/decoder/description.js'
import { rotaryFrequencies, rotaryTables } from '../../../src/model/decoder/rotary.js'

const rotary = (scaling: RotaryScaling, dims = 128, theta = 500000): RotaryDescription => ({
  dims,
  theta,
  scaling,
})

describe('rotaryTables', () => {
  const yarn = {
    kind: 'yarn',
    factor: 4,
    betaFast: 32,
    betaSlow: 1,
    truncate: true,
    originalMaxPositions: 16,
    attentionFactor: 1.1,
  } as const
  const longrope = {
    kind: 'longrope',
    shortFactors: [1, 1.5, 2, 2.5],
    longFactors: [2, 3, 5, 7],
    originalMaxPositions: 16,
    attentionFactor: 1.2,
  } as const
  const dynamic = { kind: 'dynamic', factor: 2, originalMaxPositions: 16 } as const

  it.each<[RotaryScaling]>([
    [{ kind: 'default' }],
    [{ kind: 'linear', factor: 3 }],
    [yarn],
    [longrope],
    [dynamic],
  ])('have the cosines and sines of each position, whatever lengths were asked for before: %j', (scaling) => {
    const own = rotary(scaling, 8, 100)
    for (const length of [5, 3, 20, 16, 40, 7, 33, 40]) {
      const { frequencies, attentionFactor } = rotaryFrequencies(own, length)
      const { dims, cos, sin } = rotaryTables(own, length)
      expect(dims).toBe(8)
      expect(cos.length).toBeGreaterThanOrEqual(8 * length)
      for (let position = 0; position < length; position++) {
        for (let i = 0; i < 8; i++) {
          const angle = position * frequencies[i % 4]
          expect(cos[8 * position + i]).toBeCloseTo(attentionFactor * Math.cos(angle), 6)
          expect(sin[8 * position + i]).toBeCloseTo(attentionFactor * Math.sin(angle), 6)
        }
      }
    }
  })
})
