import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { chunksOf, runsOf } from '../../../src/pipeline/calibrate/chunks.js'
import {
  type SeenTokens,
  stageSummer,
  stageTotal,
} from '../../../src/pipeline/calibrate/statistics/stage-sums.js'
import { randomActivations } from '../../support/random-matrix.js'
import { expectClose } from '../../support/tolerance.js'

describe('chunks', () => {
  it('are all batches in order, 16 at most, and whole chunks make up equal halves where there are four or more', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3000 }), (batches) => {
        const chunks = chunksOf(batches)
        const covered = chunks.flatMap(({ first, last }) =>
          Array.from({ length: last - first }, (_, i) => first + i),
        )
        expect(covered).toEqual(Array.from({ length: batches }, (_, i) => i))
        expect(chunks.length).toBeLessThanOrEqual(16)
        const [first, second] = [0, 1].map((half) =>
          chunks
            .filter((chunk) => chunk.half === half)
            .reduce((sum, { first, last }) => sum + last - first, 0),
        )
        if (chunks.length < 4) expect([first, second]).toEqual([0, 0])
        else expect(Math.abs(first - second)).toBeLessThanOrEqual(chunks[0].last)
      }),
    )
  })

  it('without a half of their own give it every other sequence, and of a single sequence its second part', () => {
    const place = { sequence: 3, length: 5, isOnly: false }
    expect(runsOf({ half: undefined }, place, 10)).toEqual([
      { from: 0, to: 5, half: 1 },
      { from: 5, to: 10, half: 0 },
    ])
    expect(runsOf({ half: undefined }, { sequence: 0, length: 5, isOnly: true }, 5)).toEqual([
      { from: 0, to: 3, half: 0 },
      { from: 3, to: 5, half: 1 },
    ])
    expect(runsOf({ half: 1 }, place, 10)).toEqual([{ from: 0, to: 10, half: 1 }])
  })
})

/** Rows of a matrix that lie in runs of one half, in float64: `(2 / tokens) A^T B`. */
function product(a: number[][], b: number[][]): number[] {
  const [rows, cols] = [a[0].length, b[0].length]
  const sums = new Array<number>(rows * cols).fill(0)
  for (let t = 0; t < a.length; t++) {
    for (let i = 0; i < rows; i++) for (let j = 0; j < cols; j++) sums[i * cols + j] += a[t][i] * b[t][j]
  }
  return sums.map((sum) => (2 / a.length) * sum)
}

describe('sums of chunks', () => {
  it('added up are Hessian and drift of all tokens, as float64 has them', async () => {
    const shape = fc.record({
      batches: fc.integer({ min: 1, max: 11 }),
      sequences: fc.integer({ min: 1, max: 3 }),
      length: fc.integer({ min: 2, max: 9 }),
      inputs: fc.integer({ min: 1, max: 7 }),
      hidden: fc.option(fc.integer({ min: 1, max: 6 }), { nil: undefined }),
    })
    await fc.assert(
      fc.asyncProperty(shape, async ({ batches, sequences, length, inputs, hidden }) => {
        const rows = sequences * length
        const random = (cols: number, batch: number, seed: number) =>
          randomActivations(cols, rows, 100 * batch + seed)
        const seen = (batch: number, seed: number): SeenTokens => ({
          input: random(inputs, batch, seed),
          residual: hidden === undefined ? undefined : random(hidden, batch, seed + 1),
        })
        const total = stageTotal()
        const all: { half: number; x: number[]; dx: number[]; dr: number[] }[] = []
        for (const chunk of chunksOf(batches)) {
          const summer = stageSummer()
          for (let batch = chunk.first; batch < chunk.last; batch++) {
            const [present, full] = [seen(batch, 1), seen(batch, 11)]
            const isOnly = batches * sequences === 1
            const runs = runsOf(chunk, { sequence: batch * sequences, length, isOnly }, rows)
            await summer.see(present, full, runs, async () => {})
            const row = ({ cols, data }: { cols: number; data: Float32Array }, t: number) =>
              Array.from(data.subarray(t * cols, (t + 1) * cols))
            for (const { from, to, half } of runs) {
              for (let t = from; t < to; t++) {
                const x = row(present.input, t)
                const dx = row(full.input, t).map((value, i) => value - x[i])
                const r = hidden === undefined ? [0] : row(present.residual!, t)
                const dr = hidden === undefined ? [0] : row(full.residual!, t).map((v, i) => v - r[i])
                all.push({ half, x, dx, dr })
              }
            }
          }
          total.add(summer.sums())
        }
        const { hessian, tokens, drift } = total.statistics(0.5)
        expect([tokens, all.length]).toEqual([batches * rows, batches * rows])
        const close = (found: Float32Array, expected: number[]) =>
          expectClose(found, expected, 1e-5 * Math.max(1, ...expected.map(Math.abs)))
        const x = (tokens: typeof all) => tokens.map((token) => token.x)
        close(hessian.data, product(x(all), x(all)))
        for (const [half, found] of drift!.entries()) {
          const own = all.filter((token) => token.half === half)
          expect(found.tokens).toBe(own.length)
          close(
            found.input.data,
            product(
              own.map(({ dx }) => dx),
              x(own),
            ),
          )
          if (hidden === undefined) expect(found.residual).toBeUndefined()
          else {
            // what the layer gives is halved before it meets the stream
            const doubled = own.map(({ dr }) => dr.map((value) => value / 0.5))
            close(found.residual!.data, product(doubled, x(own)))
          }
        }
      }),
      { numRuns: 60 },
    )
  })

  it('of nothing are an error', () => {
    expect(() => stageSummer().sums()).toThrow(/no sums/)
    expect(() => stageTotal().statistics(1)).toThrow(/no statistics/)
  })
})
