import * as tf from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import { NumericError, ShapeError } from '../../../src/common/errors.js'
import { type Head, openHead } from '../../../src/model/decoder/head.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { headGradient } from '../../../src/model/passes/backward.js'
import { openDivergences } from '../../../src/model/passes/divergences.js'
import { predictionLoss, predictionLossGradient } from '../../../src/model/passes/prediction-loss.js'
import { watchKernelArrays } from '../../support/kernel-arrays.js'
import { normals } from '../../support/random-matrix.js'
import { expectClose } from '../../support/tolerance.js'
import { type ReferenceConfig, randomTensors, referenceHead, smallConfig } from '../reference-forward.js'
import { sourceOf } from '../tiny-llama.js'

beforeAll(async () => {
  await startEngine('wasm')
})

const json: ReferenceConfig = { ...smallConfig, hidden_size: 10, vocab_size: 23 }
const positions = 7

async function smallHead(of = json) {
  const tensors = randomTensors(of, 8)
  const config = describeDecoder({ ...of }, 'config.json')
  return { head: await openHead(sourceOf(tensors), config), tensors }
}

/** `log(softmax)` of each position's logits, in float64 and by its definition. */
function logProbabilities(
  of: ReferenceConfig,
  tensors: Tensors,
  hidden: ArrayLike<number>,
  change = (logits: number[]) => logits,
): number[][] {
  const width = of.hidden_size
  const rows = Array.from({ length: hidden.length / width }, (_, t) =>
    Array.from({ length: width }, (_, i) => hidden[t * width + i]),
  )
  return referenceHead(of, tensors, rows).map((raw) => {
    const logits = change(raw)
    const sum = logits.reduce((total, logit) => total + Math.exp(logit), 0)
    return logits.map((logit) => logit - Math.log(sum))
  })
}

type Tensors = ReturnType<typeof randomTensors>

function exactDivergence(
  of: ReferenceConfig,
  tensors: Tensors,
  teacher: ArrayLike<number>,
  student: ArrayLike<number>,
  change?: (logits: number[]) => number[],
): number {
  const actual = logProbabilities(of, tensors, student, change)
  return logProbabilities(of, tensors, teacher, change)
    .flatMap((row, t) => row.map((expected, token) => Math.exp(expected) * (expected - actual[t][token])))
    .reduce((sum, term) => sum + term, 0)
}

/** The slope of `f` along each axis of `values`, by central differences of fourth order. */
function slopes(values: Float32Array, f: (moved: Float64Array) => number): Float64Array {
  const step = 2 ** -9
  return Float64Array.from(values, (_, i) => {
    const at = (by: number) => f(Float64Array.from(values, (value, j) => (j === i ? value + by : value)))
    const difference = (by: number) => (at(by) - at(-by)) / (2 * by)
    return (4 * difference(step) - difference(2 * step)) / 3
  })
}

async function divergence(head: Head, teacher: Float32Array, student: Float32Array): Promise<number> {
  return (await predictionLoss(head, student, { teacher: { head, hidden: teacher } })).divergence
}

function divergenceGradient(head: Head, teacher: Float32Array, student: Float32Array) {
  const targets = { teacher: { head, hidden: teacher } }
  return predictionLossGradient(head, student, targets, { crossEntropy: 0, divergence: 1 })
}

describe('cross entropy and divergence together', () => {
  const student = normals(positions * json.hidden_size, 2)
  const next = Int32Array.of(3, 0, -1, 22, 7, 7, -1)
  const entropyOf = (rows: readonly number[][]) =>
    rows.reduce((sum, row, t) => sum - (next[t] < 0 ? 0 : row[next[t]]), 0)

  it('equal float64 sums, and have their slopes, for a teacher of another width', async () => {
    const { head, tensors } = await smallHead()
    const wide = { ...json, hidden_size: 14 }
    const { head: teacherHead, tensors: teacherTensors } = await smallHead(wide)
    const teacher = normals(positions * 14, 5)
    const expected = logProbabilities(wide, teacherTensors, teacher)
    const exact = (moved: ArrayLike<number>) => {
      const rows = logProbabilities(json, tensors, moved)
      const divergence = expected
        .flatMap((row, t) => row.map((log, token) => Math.exp(log) * (log - rows[t][token])))
        .reduce((sum, term) => sum + term, 0)
      return { crossEntropy: entropyOf(rows), divergence }
    }
    const targets = { next, teacher: { head: teacherHead, hidden: teacher } }
    const factors = { crossEntropy: 0.7, divergence: 0.2 }
    const { gradient, ...sums } = await predictionLossGradient(head, student, targets, factors)
    expect(sums).toEqual(await predictionLoss(head, student, targets))
    const { crossEntropy, divergence } = exact(student)
    expect(Math.abs(sums.crossEntropy / crossEntropy - 1)).toBeLessThan(1e-6)
    expect(Math.abs(sums.divergence / divergence - 1)).toBeLessThan(1e-6)
    const mixed = slopes(student, (moved) => {
      const at = exact(moved)
      return 0.7 * at.crossEntropy + 0.2 * at.divergence
    })
    expectClose(gradient, mixed, 3e-6)
    head.dispose()
    teacherHead.dispose()
  })

  it('need no teacher', async () => {
    const { head, tensors } = await smallHead()
    const factors = { crossEntropy: 1, divergence: 1 }
    const { gradient, ...sums } = await predictionLossGradient(head, student, { next }, factors)
    expect(sums.divergence).toBe(0)
    expect(sums.crossEntropy).toBeCloseTo(entropyOf(logProbabilities(json, tensors, student)), 5)
    const expected = slopes(student, (moved) => entropyOf(logProbabilities(json, tensors, moved)))
    expectClose(gradient, expected, 3e-6)
    head.dispose()
  })

  it('refuse a teacher of another vocabulary, and tokens of another text', async () => {
    const { head } = await smallHead()
    const { head: other } = await smallHead({ ...json, vocab_size: 29 })
    const teacher = { head: other, hidden: student }
    await expect(predictionLoss(head, student, { teacher })).rejects.toThrow(/29 tokens, the student 23/)
    await expect(predictionLoss(head, student, { next: next.subarray(1) })).rejects.toThrow(ShapeError)
    head.dispose()
    other.dispose()
  })
})

describe('divergence', () => {
  const teacher = normals(positions * json.hidden_size, 1)
  const student = normals(positions * json.hidden_size, 2)

  it('equals a float64 sum over positions, with and without the gradient', async () => {
    const { head, tensors } = await smallHead()
    const expected = exactDivergence(json, tensors, teacher, student)
    expect(Math.abs((await divergence(head, teacher, student)) / expected - 1)).toBeLessThan(1e-6)
    const { divergence: sum } = await divergenceGradient(head, teacher, student)
    expect(sum).toBe(await divergence(head, teacher, student))
    head.dispose()
  })

  it("has the gradient that finite differences give on the student's hidden states", async () => {
    const { head, tensors } = await smallHead()
    const { gradient } = await divergenceGradient(head, teacher, student)
    const expected = slopes(student, (moved) => exactDivergence(json, tensors, teacher, moved))
    expectClose(gradient, expected, 3e-6)
    head.dispose()
  })

  it('knows a scale and a cap of logits, and so does its gradient', async () => {
    const tensors = randomTensors(json, 8)
    const plain = describeDecoder({ ...json }, 'config.json')
    const capped = { ...plain, head: { ...plain.head, scale: 0.7, softCap: 1.5 } }
    const head = await openHead(sourceOf(tensors), capped)
    const change = (logits: number[]) => logits.map((logit) => 1.5 * Math.tanh((0.7 * logit) / 1.5))
    const exact = (moved: ArrayLike<number>) => exactDivergence(json, tensors, teacher, moved, change)
    const { divergence: sum, gradient } = await divergenceGradient(head, teacher, student)
    expect(Math.abs(sum / exact(student) - 1)).toBeLessThan(1e-5)
    expectClose(gradient, slopes(student, exact), 3e-6)
    head.dispose()
  })

  it('is 0 between a model and itself, and so is its gradient', async () => {
    const { head } = await smallHead()
    const { divergence: sum, gradient } = await divergenceGradient(head, teacher, teacher)
    expect(sum).toBe(0)
    expect(gradient.every((value) => value === 0)).toBe(true)
    head.dispose()
  })

  it('is the same when the logits do not fit into memory at once', async () => {
    const wide = { ...json, hidden_size: 4, vocab_size: 2 ** 17 }
    const { head } = await smallHead(wide)
    const [expected, actual] = [normals(131 * 4, 3), normals(131 * 4, 4)]
    const whole = await divergenceGradient(head, expected, actual)
    const [first, last] = [
      await divergenceGradient(head, expected.subarray(0, 260), actual.subarray(0, 260)),
      await divergenceGradient(head, expected.subarray(260), actual.subarray(260)),
    ]
    expect(whole.divergence).toBeCloseTo(first.divergence + last.divergence, 6)
    expectClose(whole.gradient, [...first.gradient, ...last.gradient], 1e-6)
    head.dispose()
  })

  it('refuses hidden states of different text, of another width, and logits that are not finite', async () => {
    const { head } = await smallHead()
    await expect(divergence(head, teacher, student.subarray(json.hidden_size))).rejects.toThrow(ShapeError)
    await expect(divergence(head, teacher.subarray(1), student.subarray(1))).rejects.toThrow(ShapeError)
    const damaged = student.slice().fill(Number.NaN, 25, 26)
    await expect(divergence(head, teacher, damaged)).rejects.toThrow(NumericError)
    await expect(divergence(head, teacher, damaged)).rejects.toThrow(
      /hidden state 2: a logit of its predictions is not finite/,
    )
    head.dispose()
  })
})

describe('openDivergences', () => {
  it('gives those of float64 sums, of each of several models, again and again, and 0 of the same', async () => {
    const { head, tensors } = await smallHead()
    const full = normals(positions * json.hidden_size, 1)
    const others = [2, 3, 4].map((seed) => normals(positions * json.hidden_size, seed))
    const divergences = await openDivergences(head, full)
    const found = await divergences.of([...others, full])
    for (const [i, other] of others.entries()) {
      const expected = exactDivergence(json, tensors, full, other) / positions
      expect(Math.abs(found[i] / expected - 1)).toBeLessThan(1e-6)
    }
    expect(found[3]).toBeLessThan(1e-7)
    expect(await divergences.of(others.toReversed())).toEqual(found.slice(0, 3).toReversed())
    await expect(divergences.of([full.subarray(json.hidden_size)])).rejects.toThrow(ShapeError)
    const unkept = await openDivergences(head, full, 0)
    expect(await unkept.of(others)).toEqual(found.slice(0, 3))
    divergences.dispose()
    unkept.dispose()
    head.dispose()
  })

  it('gives all memory back, also where a logit is not finite', async () => {
    const arrays = watchKernelArrays()
    const { head } = await smallHead()
    const before = arrays.inUse()
    const full = normals(positions * json.hidden_size, 1)
    const damaged = full.slice().fill(Number.NaN, 25, 26)
    await expect(openDivergences(head, damaged)).rejects.toThrow(/hidden state 2: a logit/)
    for (const keptBytes of [0, 2 ** 20]) {
      const divergences = await openDivergences(head, full, keptBytes)
      await expect(divergences.of([full, damaged])).rejects.toThrow(NumericError)
      divergences.dispose()
      expect(arrays.inUse()).toBe(before)
    }
    head.dispose()
    arrays.stop()
  })
})

describe('the backward pass of a head', () => {
  it('sums over all slices of a large vocabulary, without keeping them', async () => {
    const [vocabSize, hiddenSize] = [40_000, 1000]
    const config = describeDecoder({ ...smallConfig, vocab_size: vocabSize, hidden_size: hiddenSize }, 'c')
    const source = {
      shape: (name: string) => (name.includes('norm') ? [hiddenSize] : [vocabSize, hiddenSize]),
      floats: async () => new Float32Array(hiddenSize).fill(1),
      rows: async (_: string, first: number, count: number) => {
        const rows = new Float32Array(count * hiddenSize)
        for (let i = 0; i < count; i++) rows[i * hiddenSize] = Math.cos(first + i)
        return rows
      },
    }
    const before = tf.memory().numTensors
    const head = await openHead(source, config)
    const hidden = normals(2 * hiddenSize, 1)
    const onLogits = normals(2 * vocabSize, 2)
    const gradient = await headGradient(head, hidden, onLogits)
    for (const t of [0, 1]) {
      const state = hidden.subarray(t * hiddenSize, (t + 1) * hiddenSize)
      let onFirst = 0
      for (let token = 0; token < vocabSize; token++)
        onFirst += onLogits[t * vocabSize + token] * Math.cos(token)
      const meanSquare = state.reduce((sum, x) => sum + x * x, 0) / hiddenSize + config.finalNorm.epsilon
      const expected = Array.from(state, (x, i) => {
        const through = (i === 0 ? 1 : 0) - (x * state[0]) / (hiddenSize * meanSquare)
        return (onFirst * through) / Math.sqrt(meanSquare)
      })
      expectClose(gradient.subarray(t * hiddenSize, (t + 1) * hiddenSize), expected, 1e-4)
    }
    await expect(headGradient(head, hidden.subarray(hiddenSize), onLogits)).rejects.toThrow(ShapeError)
    head.dispose()
    expect(tf.memory().numTensors).toBe(before)
  })
})
