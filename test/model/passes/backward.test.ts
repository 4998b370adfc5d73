import * as tf from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import { NumericError, ShapeError } from '../../../src/common/errors.js'
import type { Matrix } from '../../../src/common/matrix.js'
import { randomGenerator } from '../../../src/common/random.js'
import { type Block, disposeBlock, normsOf, openBlock } from '../../../src/model/decoder/block.js'
import { linearLayers } from '../../../src/model/decoder/linears.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { backwardBlock } from '../../../src/model/passes/backward.js'
import { normals } from '../../support/random-matrix.js'
import { type ReferenceConfig, randomTensors, referenceBlock, smallConfig } from '../reference-forward.js'
import { sourceOf, type TestTensor } from '../tiny-llama.js'

beforeAll(async () => {
  await startEngine('wasm')
})

const cases: { name: string; json: ReferenceConfig; batch: number; length: number }[] = [
  { name: 'plain', json: smallConfig, batch: 1, length: 7 },
  {
    name: 'grouped heads, biases, an odd width, several sequences',
    json: {
      ...smallConfig,
      hidden_size: 15,
      intermediate_size: 13,
      num_attention_heads: 6,
      num_key_value_heads: 2,
      head_dim: 4,
      attention_bias: true,
      mlp_bias: true,
    },
    batch: 3,
    length: 5,
  },
  {
    name: 'a sliding window',
    json: { ...smallConfig, model_type: 'mistral', num_key_value_heads: 1, sliding_window: 4 },
    batch: 2,
    length: 9,
  },
  {
    name: 'longer than a chunk of queries',
    json: { ...smallConfig, num_key_value_heads: 1, max_position_embeddings: 256 },
    batch: 1,
    length: 133,
  },
  {
    name: 'longer than a chunk of queries, with a sliding window',
    json: { ...smallConfig, model_type: 'mistral', max_position_embeddings: 300, sliding_window: 30 },
    batch: 2,
    length: 259,
  },
]

/** The gradients as the library computes them, the weights' as out x in. */
async function gradients(
  tensors: ReadonlyMap<string, TestTensor>,
  json: ReferenceConfig,
  hidden: Float32Array,
  up: Float32Array,
  batch: number,
) {
  const block = await openBlock(sourceOf(tensors), describeDecoder({ ...json }, 'config.json').blocks[0])
  const weights = new Map<string, Float32Array>()
  const norms = new Map<string, Float32Array>()
  const length = hidden.length / batch / json.hidden_size
  const onHidden = await backwardBlock(
    block,
    hidden,
    up,
    batch,
    length,
    (kind, input, outputGradient, tokens) => {
      expect(weights.has(kind)).toBe(false)
      expect(tokens).toBeUndefined()
      weights.set(kind, weightGradient(input, outputGradient))
    },
    (place, onScale, onShift) => {
      expect(norms.has(place)).toBe(false)
      expect(onShift).toBeUndefined()
      norms.set(place, onScale)
    },
  )
  disposeBlock(block)
  return { onHidden, weights, norms }
}

/** `outputGradient^T input`, summed in float64. */
function weightGradient(input: Matrix, outputGradient: Matrix): Float32Array {
  const [rows, cols] = [outputGradient.cols, input.cols]
  const sums = new Float64Array(rows * cols)
  for (let token = 0; token < input.rows; token++) {
    for (let row = 0; row < rows; row++) {
      const slope = outputGradient.data[token * rows + row]
      for (let col = 0; col < cols; col++) sums[row * cols + col] += slope * input.data[token * cols + col]
    }
  }
  return Float32Array.from(sums)
}

/** `sum(up * output)` in float64. */
function loss(
  json: ReferenceConfig,
  tensors: ReadonlyMap<string, TestTensor>,
  hidden: ArrayLike<number>,
  up: Float32Array,
  batch: number,
): number {
  const width = json.hidden_size
  const length = hidden.length / batch / width
  let sum = 0
  for (let sequence = 0; sequence < batch; sequence++) {
    const first = sequence * length * width
    const rows = Array.from({ length }, (_, t) =>
      Array.from({ length: width }, (_, i) => hidden[first + t * width + i]),
    )
    referenceBlock(json, tensors, 0, rows)
      .flat()
      .forEach((value, i) => {
        sum += value * up[first + i]
      })
  }
  return sum
}

const step = 2 ** -10

/** The slope of `loss` at 0, by central differences of fourth order. */
function slope(lossAt: (by: number) => number): number {
  const difference = (by: number) => (lossAt(by) - lossAt(-by)) / (2 * by)
  return (4 * difference(step) - difference(2 * step)) / 3
}

/** The same values moved along a direction; float32, as the weights of a checkpoint are. */
function moved(values: Float32Array, direction: Float32Array, by: number): Float64Array {
  return Float64Array.from(values, (value, i) => value + by * direction[i])
}

const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * b[i], 0)
const size = (a: Float32Array) => Math.sqrt(dot(a, a))

/** Random directions, and single axes. */
function directions(length: number, seed: number): Float32Array[] {
  const random = randomGenerator(seed)
  const axes = Array.from({ length: 3 }, () => {
    const axis = new Float32Array(length)
    axis[Math.floor(random() * length)] = 1
    return axis
  })
  return [normals(length, seed).map((value) => value / Math.sqrt(length)), ...axes]
}

describe('backwardBlock', () => {
  it.each(cases)('gives the slopes of a float64 forward pass on its input: $name', async (given) => {
    const { json, batch, length } = given
    const tensors = randomTensors(json, 3)
    const hidden = normals(batch * length * json.hidden_size, 1)
    const up = normals(hidden.length, 2)
    const { onHidden } = await gradients(tensors, json, hidden, up, batch)
    const tolerance = 2e-6 * size(onHidden)
    for (const direction of directions(hidden.length, 4)) {
      const expected = slope((by) => loss(json, tensors, moved(hidden, direction, by), up, batch))
      expect(Math.abs(dot(onHidden, direction) - expected)).toBeLessThanOrEqual(tolerance)
    }
  })

  it.each(cases)(
    'gives what makes the slopes of a float64 forward pass on its weights: $name',
    async (given) => {
      const { json, batch, length } = given
      const tensors = randomTensors(json, 3)
      const hidden = normals(batch * length * json.hidden_size, 1)
      const up = normals(hidden.length, 2)
      const { weights } = await gradients(tensors, json, hidden, up, batch)
      const kinds = linearLayers(describeDecoder({ ...json }, 'config.json'), 0).map(({ kind }) => kind)
      expect([...weights.keys()].sort()).toEqual(kinds.sort())
      for (const [kind, gradient] of weights) {
        const name = `model.layers.0.${kind}.weight`
        const { shape, values } = tensors.get(name)!
        const tolerance = 2e-6 * size(gradient)
        for (const direction of directions(values.length, 5).slice(0, 2)) {
          const expected = slope((by) => {
            // the oracle reads numbers, of whatever precision
            const weight = moved(values, direction, by) as unknown as Float32Array
            return loss(json, new Map([...tensors, [name, { shape, values: weight }]]), hidden, up, batch)
          })
          expect(Math.abs(dot(gradient, direction) - expected)).toBeLessThanOrEqual(tolerance)
        }
      }
    },
  )

  it.each(cases)('gives the slopes of a float64 forward pass on its norms: $name', async (given) => {
    const { json, batch, length } = given
    const tensors = randomTensors(json, 3)
    const hidden = normals(batch * length * json.hidden_size, 1)
    const up = normals(hidden.length, 2)
    const { norms } = await gradients(tensors, json, hidden, up, batch)
    const descriptions = normsOf(describeDecoder({ ...json }, 'config.json').blocks[0])
    expect([...norms.keys()].sort()).toEqual(Object.keys(descriptions).sort())
    for (const [place, gradient] of norms) {
      const [name] = descriptions[place].weights
      const { shape, values } = tensors.get(name)!
      const tolerance = 2e-6 * size(gradient)
      for (const direction of directions(values.length, 5)) {
        const expected = slope((by) => {
          const scale = moved(values, direction, by) as unknown as Float32Array
          return loss(json, new Map([...tensors, [name, { shape, values: scale }]]), hidden, up, batch)
        })
        expect(Math.abs(dot(gradient, direction) - expected)).toBeLessThanOrEqual(tolerance)
      }
    }
  })

  it('gives each sequence of a batch what it gets alone, when its heads are attended to in several turns', async () => {
    const [batch, length] = [33, 128]
    const config = describeDecoder({ ...smallConfig, max_position_embeddings: length }, 'config.json')
    const block = await openBlock(sourceOf(randomTensors(smallConfig, 3)), config.blocks[0])
    const hidden = normals(batch * length * config.hiddenSize, 1)
    const up = normals(hidden.length, 2)
    const together = await backwardBlock(block, hidden, up, batch, length)
    const each = hidden.length / batch
    for (const sequence of [0, 31, 32]) {
      const part = (x: Float32Array) => x.subarray(sequence * each, (sequence + 1) * each)
      const alone = await backwardBlock(block, part(hidden), part(up), 1, length)
      expect(Buffer.compare(bytes(part(together)), bytes(alone))).toBe(0)
    }
    disposeBlock(block)
  })

  it('is the same with and without a listener, and leaves no tensor behind', async () => {
    const before = tf.memory().numTensors
    const { block, hidden, up } = await smallBlock()
    const alone = await backwardBlock(block, hidden, up, 2, 5)
    const loaded = tf.memory().numTensors
    const observed = await backwardBlock(block, hidden, up, 2, 5, (_, input) => {
      tf.tensor2d(input.data, [input.rows, input.cols])
    })
    expect(observed).toEqual(alone)
    expect(tf.memory().numTensors).toBe(loaded)
    disposeBlock(block)
    expect(tf.memory().numTensors).toBe(before)
  })

  it('refuses arrays of another size, and gradients that are not finite', async () => {
    const before = tf.memory().numTensors
    const { block, hidden, up } = await smallBlock()
    await expect(backwardBlock(block, hidden, up, 2, 6)).rejects.toThrow(ShapeError)
    await expect(backwardBlock(block, hidden, up.subarray(1), 2, 5)).rejects.toThrow(ShapeError)
    const infinite = up.slice().fill(Number.POSITIVE_INFINITY, 7, 8)
    await expect(backwardBlock(block, hidden, infinite, 2, 5)).rejects.toThrow(NumericError)
    await expect(backwardBlock(block, hidden, infinite, 2, 5)).rejects.toThrow(
      /block 0: the gradient on its input/,
    )
    disposeBlock(block)
    expect(tf.memory().numTensors).toBe(before)
  })

  it('frees what a listener that fails leaves behind', async () => {
    const before = tf.memory().numTensors
    const { block, hidden, up } = await smallBlock()
    const failing = () => {
      throw new Error('the listener fails')
    }
    await expect(backwardBlock(block, hidden, up, 2, 5, failing)).rejects.toThrow('the listener fails')
    disposeBlock(block)
    expect(tf.memory().numTensors).toBe(before)
  })
})

const bytes = ({ buffer, byteOffset, byteLength }: Float32Array) =>
  Buffer.from(buffer, byteOffset, byteLength)

async function smallBlock(): Promise<{ block: Block; hidden: Float32Array; up: Float32Array }> {
  const config = describeDecoder({ ...smallConfig }, 'config.json')
  const block = await openBlock(sourceOf(randomTensors(smallConfig, 3)), config.blocks[0])
  return { block, hidden: normals(10 * config.hiddenSize, 1), up: normals(10 * config.hiddenSize, 2) }
}
