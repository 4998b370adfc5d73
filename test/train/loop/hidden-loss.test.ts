import { beforeAll, describe, expect, it } from 'vitest'
import { CheckpointError, OptionError } from '../../../src/common/errors.js'
import { randomGenerator, randomNormal } from '../../../src/common/random.js'
import { openHead } from '../../../src/model/decoder/head.js'
import { allLinearLayers } from '../../../src/model/decoder/linears.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { comparedBlocks } from '../../../src/train/compared-blocks.js'
import { addHiddenGradient, hiddenDistance } from '../../../src/train/loop/hidden-loss.js'
import { addGradients, type Batch, lossOfBatch } from '../../../src/train/loop/passes.js'
import { noGradients, openStudent } from '../../../src/train/loop/student.js'
import { trainablePlain } from '../../../src/train/weights/plain.js'
import {
  type ReferenceConfig,
  randomTensors,
  referenceBlock,
  smallConfig,
} from '../../model/reference-forward.js'
import { sourceOf } from '../../model/tiny-llama.js'

beforeAll(async () => {
  await startEngine('wasm')
})

const json: ReferenceConfig = { ...smallConfig, num_key_value_heads: 1, vocab_size: 19 }
const config = describeDecoder({ ...json }, 'config.json')
const tensors = randomTensors(json, 11)
const source = sourceOf(tensors)
const noPause = async () => {}
const random = randomGenerator(5)
const normal = (length: number) => Float32Array.from({ length }, () => randomNormal(random))

describe('the distance of hidden states', () => {
  it('is that of each token relative to its size, and has the slopes of finite differences', () => {
    for (const [tokens, width] of [
      [1, 1],
      [3, 5],
      [7, 4],
    ]) {
      const [states, targets] = [normal(tokens * width), normal(tokens * width)]
      const sizeOf = (x: Float32Array) => x.reduce((sum, value) => sum + value * value, 0)
      let expected = 0
      for (let start = 0; start < states.length; start += width) {
        const target = targets.subarray(start, start + width)
        const gap = states.subarray(start, start + width).map((value, i) => value - target[i])
        expected += sizeOf(gap) / sizeOf(target)
      }
      expect(hiddenDistance(states, targets, width)).toBeCloseTo(expected, 4)
      const gradient = new Float32Array(states.length).fill(1)
      addHiddenGradient(gradient, states, targets, width, 0.5)
      for (let i = 0; i < states.length; i++) {
        const at = (by: number) => {
          const moved = Float64Array.from(states)
          moved[i] += by
          return hiddenDistance(moved as unknown as Float32Array, targets, width)
        }
        const slope = (at(1e-3) - at(-1e-3)) / 2e-3
        expect(Math.abs(gradient[i] - 1 - 0.5 * slope)).toBeLessThan(1e-5 * (1 + Math.abs(slope)))
      }
    }
  })

  it('leaves out a token whose target is 0', () => {
    const states = Float32Array.of(1, 2, 3, 4)
    expect(hiddenDistance(states, Float32Array.of(0, 0, 3, 3), 2)).toBeCloseTo(1 / 18, 6)
    const gradient = new Float32Array(4)
    addHiddenGradient(gradient, states, Float32Array.of(0, 0, 3, 3), 2, 1)
    expect([...gradient.subarray(0, 2)]).toEqual([0, 0])
    expect(gradient[3]).toBeGreaterThan(0)
  })
})

describe('a batch whose hidden states count', () => {
  const [count, length] = [3, 5]
  const tokens = Int32Array.from({ length: count * length }, () => Math.floor(random() * config.vocabSize))
  const width = config.hiddenSize
  const afterBlock = config.blocks.map(() => normal(tokens.length * width))

  /** The mean distance over tokens and blocks, in float64 throughout. */
  function exactDistance(weights: ReadonlyMap<string, Float64Array>): number {
    const replaced = new Map(
      Array.from(tensors, ([name, { shape, values }]) => [
        name,
        { shape, values: (weights.get(name) ?? values) as Float32Array },
      ]),
    )
    const embedding = tensors.get('model.embed_tokens.weight')!.values
    let sum = 0
    for (let sequence = 0; sequence < count; sequence++) {
      const own = [...tokens.subarray(sequence * length, (sequence + 1) * length)]
      let hidden = own.map((token) => [...embedding.subarray(token * width, (token + 1) * width)])
      for (const { index } of config.blocks) {
        hidden = referenceBlock(json, replaced, index, hidden)
        for (const [t, state] of hidden.entries()) {
          const at = (sequence * length + t) * width
          const target = [...afterBlock[index].subarray(at, at + width)]
          const size = target.reduce((total, value) => total + value ** 2, 0)
          sum += state.reduce((total, value, i) => total + (value - target[i]) ** 2, 0) / size
        }
      }
    }
    return sum / (tokens.length * config.blocks.length)
  }

  it('has the distance and the slopes of float64 models along the weights of every layer', async () => {
    const trained = new Map(
      allLinearLayers(config).map(({ name }) => [name, trainablePlain(tensors.get(name)!.values, 'F32', 1)]),
    )
    const student = await openStudent(source, config, trained)
    const head = await openHead(source, config)
    const run = async (weight: number) => {
      const batch: Batch = { tokens, length, distillation: 0, hidden: { afterBlock, weight } }
      const gradients = noGradients(student)
      const loss = await addGradients(student, head, batch, gradients, noPause)
      expect(await lossOfBatch(student, head, batch, noPause)).toEqual(loss)
      return { loss, gradients }
    }
    const [without, weighted] = [await run(0), await run(3)]
    head.dispose()
    expect(Math.abs(weighted.loss.hidden - exactDistance(new Map()))).toBeLessThan(1e-5)
    expect(weighted.loss.loss).toBeCloseTo(weighted.loss.crossEntropy + 3 * weighted.loss.hidden, 5)
    expect(without.loss.loss).toBeCloseTo(weighted.loss.crossEntropy, 6)
    for (const [name, [gradient]] of weighted.gradients) {
      const before = without.gradients.get(name)![0]
      const values = tensors.get(name)!.values
      const direction = Float64Array.from(values, () => 2 * random() - 1)
      const at = (by: number) =>
        exactDistance(new Map([[name, Float64Array.from(values, (value, i) => value + by * direction[i])]]))
      const difference = (by: number) => (at(by) - at(-by)) / (2 * by)
      const slope = (4 * difference(2 ** -10) - difference(2 ** -9)) / 3
      const own = Float64Array.from(gradient, (value, i) => (value - before[i]) / 3)
      const found = own.reduce((sum, value, i) => sum + value * direction[i], 0)
      const size = Math.sqrt(own.reduce((sum, value) => sum + value ** 2, 0))
      expect(Math.abs(found - slope)).toBeLessThanOrEqual(1e-4 * size + 1e-6)
    }
  })
})

describe('comparedBlocks', () => {
  const of = (blocks: number, hiddenSize = config.hiddenSize) => ({
    folder: 'model',
    source,
    config: { ...config, hiddenSize, blocks: Array.from({ length: blocks }, () => config.blocks[0]) },
  })

  it('takes for a kept block the last one before the next, for others runs of equal length', () => {
    expect(comparedBlocks(of(4), of(2), [0, 3])).toEqual([2, 3])
    expect(comparedBlocks(of(4), of(2), [1, 2])).toEqual([1, 3])
    expect(comparedBlocks(of(4), of(4), [0, 1, 2, 3])).toEqual([0, 1, 2, 3])
    expect(comparedBlocks(of(4), of(4), undefined)).toEqual([0, 1, 2, 3])
    expect(comparedBlocks(of(6), of(2), undefined)).toEqual([2, 5])
    expect(comparedBlocks(of(5), of(2), undefined)).toEqual([1, 4])
  })

  it('refuses blocks in another order, more blocks than the teacher has, and another hidden size', () => {
    expect(() => comparedBlocks(of(4), of(2), [3, 0])).toThrow(OptionError)
    expect(() => comparedBlocks(of(2), of(4), undefined)).toThrow(CheckpointError)
    expect(() => comparedBlocks(of(4, 99), of(2), undefined)).toThrow(/hidden size of 99/)
  })
})
