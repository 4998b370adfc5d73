import { expect, it } from 'vitest'
import { quantizeRtn } from '../../../src/baselines/rtn.js'
import { AbortedError, NumericError } from '../../../src/common/errors.js'
import { matrix } from '../../../src/common/matrix.js'
import { randomGenerator } from '../../../src/common/random.js'
import type { WeightSource } from '../../../src/model/decoder/weights.js'
import type { ScalarLayer } from '../../../src/packing/scalar-layer.js'
import { type EndsWork, quantizeEndTensors } from '../../../src/pipeline/quantize/quantize-ends.js'
import { rejectionOf } from '../../support/tolerance.js'

const [rows, cols] = [20000, 130]
const random = randomGenerator(1)
const values = Float32Array.from({ length: rows * cols }, () => random() - 0.5)
const tensor = { name: 'model.embed_tokens.weight', rows, cols, bits: 4, method: 'rtn', use: 'both' } as const
const work: Omit<EndsWork, 'weights'> = {
  tensors: [tensor],
  seed: 0,
  headInputs: () => Promise.reject(new Error('rounding sees no text')),
  signal: undefined,
  onProgress: () => {},
}

/** A source of this one tensor that is never read as a whole. */
function sourceOf(data: Float32Array, onRows: (count: number) => void = () => {}): WeightSource {
  return {
    shape: () => [rows, cols],
    floats: () => Promise.reject(new Error('read as a whole')),
    rows: async (_, first, count) => {
      onRows(count)
      return data.slice(first * cols, (first + count) * cols)
    },
  }
}

it('a large embedding is rounded some rows at a time, to the same codes as at once', async () => {
  const layers: ScalarLayer[] = []
  const counts: number[] = []
  const shares: number[] = []
  await quantizeEndTensors(
    {
      ...work,
      weights: sourceOf(values, (count) => counts.push(count)),
      onProgress: (step, done) => {
        expect(step).toBe('rounding model.embed_tokens')
        shares.push(done)
      },
    },
    async (_, layer) => {
      layers.push(layer as ScalarLayer)
    },
  )
  const [{ codes, scales, zeros, ...sizes }] = layers
  const expected = quantizeRtn(matrix(rows, cols, values), { bits: 4, groupSize: 64 })
  expect(sizes).toEqual({ rows, cols, bits: 4, groupSize: 64 })
  expect(Buffer.compare(codes, expected.codes)).toBe(0)
  expect(Buffer.compare(zeros, expected.zeros)).toBe(0)
  expect(scales).toEqual(expected.scales)
  expect(Math.max(...counts) * cols).toBeLessThan(2 ** 21)
  expect(counts.length).toBeGreaterThan(1)
  expect(shares).toEqual(shares.toSorted((a, b) => a - b))
})

it('it can be stopped halfway, and damage far down is named by its row', async () => {
  const controller = new AbortController()
  const timer = setTimeout(() => controller.abort(), 0)
  const delivered: string[] = []
  const round = (data: Float32Array, signal?: AbortSignal) =>
    rejectionOf(() =>
      quantizeEndTensors({ ...work, weights: sourceOf(data), signal }, async (name) => {
        delivered.push(name)
      }),
    )
  expect(await round(values, controller.signal)).toBeInstanceOf(AbortedError)
  clearTimeout(timer)
  const damaged = values.slice().fill(Number.NaN, -1)
  const error = await round(damaged)
  expect(error).toBeInstanceOf(NumericError)
  expect((error as Error).message).toMatch(/^model\.embed_tokens\.weight from row \d+: found NaN at row/)
  expect(delivered).toEqual([])
})
