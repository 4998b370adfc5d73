import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { randomGenerator, randomNormal } from '../../../../src/common/random.js'
import { useKernels } from '../../../../src/kernels/kernels.js'
import { mixRows, pickRows, routeRows } from '../../../../src/model/ops/kernels/kernel-routing.js'
import { type KernelRows, tidyRows } from '../../../../src/model/ops/kernels/kernel-scope.js'

beforeAll(() => {
  useKernels('reference')
})

const rows = (count: number, cols: number, values: ArrayLike<number>): KernelRows => ({
  rows: count,
  cols,
  data: Float32Array.from(values),
})

function normals(count: number, seed: number): number[] {
  const random = randomGenerator(seed)
  return Array.from({ length: count }, () => randomNormal(random))
}

/** Each token's experts and their weights by the definition, one token at a time. */
function routeByHand(logits: readonly number[], active: number, sumToOne: boolean): Map<number, number> {
  const largest = Math.max(...logits)
  const powers = logits.map((logit) => Math.exp(logit - largest))
  const total = powers.reduce((sum, power) => sum + power, 0)
  const order = logits.map((_, expert) => expert).sort((a, b) => logits[b] - logits[a] || a - b)
  const chosen = order.slice(0, active)
  const sum = sumToOne ? chosen.reduce((sum, expert) => sum + powers[expert], 0) : total
  return new Map(chosen.map((expert) => [expert, powers[expert] / sum]))
}

/** Logits of tokens, many of them equal to others. */
const cases = fc
  .record({ tokens: fc.integer({ min: 1, max: 9 }), experts: fc.integer({ min: 1, max: 12 }) })
  .chain(({ tokens, experts }) =>
    fc.record({
      tokens: fc.constant(tokens),
      experts: fc.constant(experts),
      active: fc.integer({ min: 1, max: experts }),
      sumToOne: fc.boolean(),
      logits: fc.array(
        fc.oneof(
          fc.constantFrom(-2, 0, 0.5, 0.5 + 2 ** -24, 3),
          fc.float({ min: -2000, max: 2000, noNaN: true }),
        ),
        { minLength: tokens * experts, maxLength: tokens * experts },
      ),
    }),
  )

describe('routeRows', () => {
  it('gives each token the experts with the highest logits, the first of equal ones, and their shares', () => {
    fc.assert(
      fc.property(cases, ({ tokens, experts, active, sumToOne, logits }) => {
        const values = Float32Array.from(logits)
        const routes = routeRows(rows(tokens, experts, values), active, sumToOne)
        const expected = Array.from({ length: tokens }, (_, token) =>
          routeByHand([...values.subarray(token * experts, (token + 1) * experts)], active, sumToOne),
        )
        for (let expert = 0; expert < experts; expert++) {
          const own = [...expected.keys()].filter((token) => expected[token].has(expert))
          expect([...routes.tokens[expert]]).toEqual(own)
          for (let token = 0; token < tokens; token++) {
            const weight = routes.weights.data[token * experts + expert]
            expect(Math.abs(weight - (expected[token].get(expert) ?? 0))).toBeLessThan(2 ** -24)
          }
        }
        expect([routes.weights.rows, routes.weights.cols]).toEqual([tokens, experts])
      }),
      { numRuns: 500 },
    )
  })

  it('gives weights that add up to 1 where asked, to less where not', () => {
    const logits = rows(30, 7, normals(210, 1))
    for (const sumToOne of [true, false]) {
      const { weights } = routeRows(logits, 3, sumToOne)
      for (let token = 0; token < 30; token++) {
        const sum = weights.data.subarray(7 * token, 7 * token + 7).reduce((a, b) => a + b, 0)
        if (sumToOne) expect(sum).toBeCloseTo(1, 6)
        else expect(sum).toBeLessThan(1)
      }
    }
  })

  it('lets NaN through to the weights of its own token', () => {
    const values = normals(12, 2)
    values[5] = Number.NaN
    const { weights } = routeRows(rows(3, 4, values), 2, true)
    const areFinite = [0, 1, 2].map((token) =>
      weights.data.subarray(4 * token, 4 * token + 4).every(Number.isFinite),
    )
    expect(areFinite).toEqual([true, false, true])
  })
})

describe('mixRows', () => {
  it('of all experts adds up each token’s weighted outputs, and changes none of its operands', () => {
    fc.assert(
      fc.property(cases, fc.nat(), ({ tokens, experts, active, sumToOne, logits }, seed) => {
        const cols = 3
        const x = rows(tokens, cols, normals(tokens * cols, seed))
        const factors = normals(experts, seed + 1)
        tidyRows(() => {
          const routes = routeRows(rows(tokens, experts, logits), active, sumToOne)
          let sum = rows(tokens, cols, new Float32Array(tokens * cols).fill(2))
          for (let expert = 0; expert < experts; expert++) {
            if (routes.tokens[expert].length === 0) continue
            const picked = pickRows(x, routes.tokens[expert])
            const output = rows(
              picked.rows,
              cols,
              picked.data.map((value) => factors[expert] * value),
            )
            const before = sum.data.slice()
            const next = mixRows(sum, output, routes, expert)
            expect(sum.data).toEqual(before)
            sum = next
          }
          for (let token = 0; token < tokens; token++) {
            const own = Array.from(logits.slice(token * experts, (token + 1) * experts), Math.fround)
            let factor = 0
            for (const [expert, weight] of routeByHand(own, active, sumToOne))
              factor += weight * factors[expert]
            for (let i = 0; i < cols; i++) {
              const at = token * cols + i
              expect(Math.abs(sum.data[at] - (2 + factor * x.data[at]))).toBeLessThan(
                1e-5 * (1 + Math.abs(x.data[at])),
              )
            }
          }
        })
      }),
    )
  })
})
