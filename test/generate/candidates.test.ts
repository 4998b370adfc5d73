import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { randomGenerator } from '../../src/common/random.js'
import { candidatesOf, type Filters, likeliest } from '../../src/generate/candidates.js'
import { chooseToken, type Sampling } from '../../src/generate/choose-token.js'
import { forwardKernels } from '../../src/kernels/forward-kernels.js'
import { startEngine } from '../../src/model/ops/engine.js'
import { greedy } from './write-tokens.js'

beforeAll(() => startEngine('wasm'))

/** Logits of a vocabulary, some of them equal. */
const logitsOf = fc
  .array(fc.integer({ min: -300, max: 300 }), { minLength: 1, maxLength: 60 })
  .map((values) => Float32Array.from(values, (value) => value / 10))

const filtersOf = fc.record<Filters>({
  temperature: fc.constantFrom(0.05, 0.7, 1, 3),
  topK: fc.constantFrom(0, 1, 3, 20, 1000),
  topP: fc.constantFrom(1, 0.951, 0.473, 0.011, 0),
  minP: fc.constantFrom(0, 0.001, 0.2, 1),
})

/** The filters one after the other, each over all tokens. */
function bruteForce(logits: Float32Array, { temperature, topK, topP, minP }: Filters): number[] {
  const largest = Math.max(...logits)
  const weight = (token: number) => Math.exp((logits[token] - largest) / temperature)
  let tokens = [...logits.keys()].sort((a, b) => logits[b] - logits[a] || a - b)
  if (topK > 0) tokens = tokens.slice(0, topK)
  const total = tokens.reduce((sum, token) => sum + weight(token), 0)
  if (topP < 1) {
    let sum = 0
    const end = tokens.findIndex((token) => {
      sum += weight(token)
      // sums in another order may differ in the last bit
      return sum >= topP * total * (1 - 1e-12)
    })
    if (end >= 0) tokens = tokens.slice(0, end + 1)
  }
  return tokens.filter((token) => weight(token) >= minP)
}

describe('candidatesOf', () => {
  it('keeps what the filters keep one after the other, the likeliest first', () => {
    fc.assert(
      fc.property(logitsOf, filtersOf, (logits, filters) => {
        const { tokens, weights } = candidatesOf(logits, filters)
        const expected = bruteForce(logits, filters)
        if (filters.topK === 0 && filters.topP === 1 && filters.minP === 0) return
        expect(tokens).toEqual(expected)
        expect(weights).toEqual(
          tokens.map((token) => Math.exp((logits[token] - logits[tokens[0]]) / filters.temperature)),
        )
      }),
      { numRuns: 2000 },
    )
  })

  it('finds the likeliest tokens, of equal ones the first', () => {
    fc.assert(
      fc.property(logitsOf, fc.integer({ min: 1, max: 20 }), (logits, count) => {
        const all = [...logits.keys()].sort((a, b) => logits[b] - logits[a] || a - b)
        expect(likeliest(logits, count)).toEqual(all.slice(0, count))
      }),
    )
  })
})

/** Chooses from logits as they come from the head, in the kernels' memory. */
function choose(logits: Float32Array, sampling: Sampling, seen: readonly number[] = [], seed = 1) {
  const { allocate, release } = forwardKernels()
  const held = allocate(logits.length)
  held.set(logits)
  const choice = chooseToken(held, sampling, new Set(seen), randomGenerator(seed))
  release(held)
  return choice
}

const logits = Float32Array.of(1, 3, 2, -1, 2.5, 0)
const logSum = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0))

describe('chooseToken', () => {
  it('takes the likeliest token at temperature 0, and tells log-probabilities', () => {
    const { token, logprob, top } = choose(logits, { ...greedy, topLogprobs: 3 })
    expect(token).toBe(1)
    expect(logprob).toBeCloseTo(3 - logSum, 6)
    expect(top.map((each) => each.token)).toEqual([1, 4, 2])
    for (const each of top) expect(each.logprob).toBeCloseTo(logits[each.token] - logSum, 6)
  })

  it('makes tokens that were there less likely, on both sides of 0, and tells their own log-probabilities', () => {
    expect(choose(logits, { ...greedy, repetitionPenalty: 2 }, [1, 4]).token).toBe(2)
    const below = Float32Array.of(-1, -1.5, -3)
    const { token, logprob } = choose(below, { ...greedy, repetitionPenalty: 2 }, [0])
    expect(token).toBe(1)
    expect(logprob).toBeCloseTo(-1.5 - Math.log(below.reduce((sum, each) => sum + Math.exp(each), 0)), 6)
  })

  it.each([
    ['all tokens', {}],
    ['all tokens, hotter', { temperature: 2 }],
    ['the likeliest three', { topK: 3 }],
    ['three quarters of the mass', { topP: 0.75 }],
    ['tokens half as likely as the likeliest', { minP: 0.5 }],
    ['tokens with a penalty', { repetitionPenalty: 1.5 }],
  ])('draws from %s as often as their probabilities say', (_, own) => {
    const sampling = { ...greedy, temperature: 1, ...own }
    const penalized =
      sampling.repetitionPenalty === 1 ? logits : logits.map((l, i) => (i === 1 ? l / 1.5 : l))
    const kept = bruteForce(penalized, sampling)
    const weight = (token: number) => Math.exp(penalized[token] / sampling.temperature)
    const total = kept.reduce((sum, token) => sum + weight(token), 0)
    const draws = 4000
    const counts = new Map<number, number>()
    for (let seed = 0; seed < draws; seed++) {
      const { token } = choose(logits, sampling, [1], seed)
      counts.set(token, (counts.get(token) ?? 0) + 1)
    }
    for (const token of counts.keys()) expect(kept).toContain(token)
    for (const token of kept) {
      const share = weight(token) / total
      const deviation = Math.sqrt((share * (1 - share)) / draws)
      expect(Math.abs((counts.get(token) ?? 0) / draws - share)).toBeLessThan(5 * deviation)
    }
  })
})
