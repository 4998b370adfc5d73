import * as tf from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import { CheckpointError, NumericError, ShapeError, TextError } from '../../../src/errors.js'
import { forwardKernels } from '../../../src/kernels/forward-kernels.js'
import { disposeBlock, loadBlock, replaceLinear } from '../../../src/model/decoder/block.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { embeddingName, embedTokens } from '../../../src/model/decoder/embedding.js'
import { openHead } from '../../../src/model/decoder/head.js'
import { type LinearKind, linearKinds, linearLayers } from '../../../src/model/decoder/linears.js'
import { forwardLogits } from '../../../src/model/passes/forward-logits.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { useEngineProducts, useOwnProducts } from '../../../src/model/ops/tensors/products.js'
import { type InputListener, runBlock } from '../../../src/model/decoder/run-block.js'
import type { WeightSource } from '../../../src/model/decoder/weights.js'
import { type ReferenceConfig, randomTensors, referenceForward, smallConfig } from '../reference-forward.js'
import { sourceOf, type TestTensor } from '../tiny-llama.js'

const json = { ...smallConfig, num_key_value_heads: 1 }
const config = describeDecoder({ ...json }, 'config.json')
const tokens = [3, 1, 4, 1, 5, 9, 2]

function model(change: (tensors: Map<string, TestTensor>) => void = () => {}) {
  const tensors = randomTensors(json, 5)
  change(tensors)
  return { tensors, source: sourceOf(tensors) }
}

beforeAll(async () => {
  await startEngine('wasm')
})

describe('runBlock', () => {
  it('hands out the input of every linear layer, as a brute-force pass computes it', async () => {
    const { tensors, source } = model()
    const expected = referenceForward(json, tensors, tokens).inputs
    let hidden = await embedTokens(source, config, Int32Array.from(tokens))
    const seen: string[] = []
    for (let index = 0; index < config.layers; index++) {
      const block = await loadBlock(source, config, index)
      const onInput: InputListener = (kinds, input) => {
        for (const kind of kinds) {
          const name = `model.layers.${index}.${kind}`
          seen.push(name)
          const rows = expected.get(name)!
          expect([input.rows, input.cols]).toEqual([tokens.length, rows[0].length])
          rows.flat().forEach((value, i) => {
            expect(Math.abs(input.data[i] - value)).toBeLessThan(1e-4)
          })
        }
      }
      hidden = await runBlock(block, hidden, 1, tokens.length, { onInput })
      disposeBlock(block)
    }
    expect(seen).toEqual(
      [0, 1].flatMap((index) => linearKinds.map((kind) => `model.layers.${index}.${kind}`)),
    )
  })

  it("agrees with the engine's own operations, biases and a window included, and is not them", async () => {
    const other: ReferenceConfig = {
      ...json,
      model_type: 'mistral',
      sliding_window: 4,
      attention_bias: true,
      mlp_bias: true,
    }
    const otherConfig = describeDecoder({ ...other }, 'config.json')
    const block = await loadBlock(sourceOf(randomTensors(other, 5)), otherConfig, 0)
    const { source } = model()
    const hidden = await embedTokens(source, config, Int32Array.from([...tokens, ...tokens.toReversed()]))
    const inputs = async (products: () => void) => {
      products()
      const seen: number[] = []
      const onInput: InputListener = (_, input) => seen.push(...input.data)
      const output = await runBlock(block, hidden, 2, tokens.length, { onInput })
      return [...seen, ...output]
    }
    const own = await inputs(useOwnProducts)
    const engine = await inputs(useEngineProducts)
    useOwnProducts()
    disposeBlock(block)
    expect(own.length).toBe(engine.length)
    expect(own).not.toEqual(engine)
    own.forEach((value, i) => {
      expect(Math.abs(value - engine[i])).toBeLessThan(1e-5 * (1 + Math.abs(engine[i])))
    })
  })

  it('gives each sequence of a batch what it gets alone', async () => {
    const { source } = model()
    const block = await loadBlock(source, config, 0)
    const hidden = await embedTokens(source, config, Int32Array.from([...tokens, ...tokens.toReversed()]))
    const together = await runBlock(block, hidden, 2, tokens.length)
    const half = hidden.length / 2
    expect(together.subarray(0, half)).toEqual(
      await runBlock(block, hidden.subarray(0, half), 1, tokens.length),
    )
    expect(together.subarray(half)).toEqual(await runBlock(block, hidden.subarray(half), 1, tokens.length))
    disposeBlock(block)
  })

  it('refuses hidden states of another size', async () => {
    const { source } = model()
    const block = await loadBlock(source, config, 0)
    await expect(runBlock(block, new Float32Array(10), 1, 3)).rejects.toThrow(ShapeError)
    disposeBlock(block)
  })

  it('reports an overflow by block and position instead of handing on infinities', async () => {
    const { source } = model()
    const block = await loadBlock(source, config, 1)
    const hidden = await embedTokens(source, config, Int32Array.of(3))
    replaceLinear(block, 'mlp.up_proj', new Float32Array(20 * 12).fill(1e5))
    replaceLinear(block, 'mlp.down_proj', new Float32Array(12 * 20).fill(3e38))
    await expect(runBlock(block, hidden, 1, 1)).rejects.toThrow(NumericError)
    await expect(runBlock(block, hidden, 1, 1)).rejects.toThrow(/block 1: .* position 0/)
    disposeBlock(block)
  })

  it('leaves no tensor behind, whether it succeeds or fails', async () => {
    const { source } = model()
    const before = tf.memory().numTensors
    const block = await loadBlock(source, config, 0)
    const loaded = tf.memory().numTensors
    await runBlock(block, await embedTokens(source, config, Int32Array.from(tokens)), 1, tokens.length, {
      onInput: () => {},
    })
    replaceLinear(block, 'mlp.up_proj', new Float32Array(20 * 12))
    const stop = () => {
      throw new Error('the listener fails')
    }
    const one = new Float32Array(config.hiddenSize)
    await expect(runBlock(block, one, 1, 1, { onInput: stop })).rejects.toThrow('the listener fails')
    expect(tf.memory().numTensors).toBe(loaded)
    disposeBlock(block)
    expect(tf.memory().numTensors).toBe(before)
  })
})

describe('replaceLinear', () => {
  it.each(linearKinds)('equals a checkpoint that holds the other %s', async (kind: LinearKind) => {
    const { source } = model()
    const { name, rows, cols } = linearLayers(config, 0).find((layer) => layer.kind === kind)!
    const other = randomTensors(json, 77).get(name)!
    const changed = model((tensors) => tensors.set(name, other))
    const hidden = await embedTokens(source, config, Int32Array.from(tokens))
    const block = await loadBlock(source, config, 0)
    const before = await runBlock(block, hidden, 1, tokens.length)
    replaceLinear(block, kind, other.values)
    const replaced = await runBlock(block, hidden, 1, tokens.length)
    expect(() => replaceLinear(block, kind, new Float32Array(3))).toThrow(`${rows} x ${cols}`)
    const fresh = await loadBlock(changed.source, config, 0)
    expect(replaced).toEqual(await runBlock(fresh, hidden, 1, tokens.length))
    expect(replaced).not.toEqual(before)
    disposeBlock(block)
    disposeBlock(fresh)
  })
})

describe('loading weights', () => {
  const forward = (source: WeightSource) => forwardLogits(source, config, Int32Array.from(tokens), 1)
  const names = [...randomTensors(json, 5).keys()]

  it.each(names)('names %s when it is missing, has another shape or holds a NaN', async (name) => {
    const before = tf.memory().numTensors
    const missing = model((tensors) => tensors.delete(name))
    await expect(forward(missing.source)).rejects.toThrow(CheckpointError)
    await expect(forward(missing.source)).rejects.toThrow(`${name}: no such tensor`)

    const turned = model((tensors) => {
      const { shape, values } = tensors.get(name)!
      tensors.set(name, { shape: [...shape.slice(0, -1), shape[shape.length - 1] + 1], values })
    })
    await expect(forward(turned.source)).rejects.toThrow(CheckpointError)
    await expect(forward(turned.source)).rejects.toThrow(
      new RegExp(`${name}: found the shape .*config.json asks for`),
    )

    const damaged = model((tensors) => {
      tensors.get(name)!.values[7] = Number.NaN
    })
    await expect(forward(damaged.source)).rejects.toThrow(NumericError)
    await expect(forward(damaged.source)).rejects.toThrow(`${name}`)
    expect(tf.memory().numTensors).toBe(before)
  })
})

describe('embedTokens', () => {
  it('reads only runs of rows of a large table, and gets the same rows', async () => {
    const wide = { ...config, vocabSize: 200_000, hiddenSize: 100 }
    const reads: number[] = []
    const source: WeightSource = {
      shape: () => [wide.vocabSize, wide.hiddenSize],
      floats: async () => {
        throw new Error('the whole table was asked for')
      },
      rows: async (_, first, count) => {
        reads.push(count)
        return Float32Array.from({ length: count * 100 }, (_, i) => first + Math.floor(i / 100))
      },
    }
    const ids = Int32Array.of(199_999, 5, 5, 7, 0, 100_000, 60_000, 100_016, 199_000)
    const hidden = await embedTokens(source, wide, ids)
    expect(Array.from(ids, (_, i) => hidden[i * 100 + 99])).toEqual(Array.from(ids))
    expect(reads).toEqual([8, 1, 17, 1, 1])
  })

  it('reads long runs in bounded pieces', async () => {
    const wide = { ...config, vocabSize: 100_000, hiddenSize: 1000 }
    const reads: number[] = []
    const source: WeightSource = {
      shape: () => [wide.vocabSize, wide.hiddenSize],
      floats: async () => new Float32Array(),
      rows: async (_, first, count) => {
        reads.push(count)
        return new Float32Array(count * 1000).fill(first)
      },
    }
    await embedTokens(
      source,
      wide,
      Int32Array.from({ length: 1000 }, (_, i) => i * 10),
    )
    expect(Math.max(...reads) * 1000 * 4).toBeLessThanOrEqual(2 ** 24)
  })

  it.each([-1, 17])('refuses the id %i, which is no row', async (id) => {
    const { source } = model()
    const embedding = embedTokens(source, config, Int32Array.of(1, 2, id))
    await expect(embedding).rejects.toThrow(TextError)
    await expect(embedTokens(source, config, Int32Array.of(1, 2, id))).rejects.toThrow(
      `token 2 of the text has the id ${id}`,
    )
  })
})

describe('openHead', () => {
  it('multiplies a large vocabulary by slices, without keeping them, and gets the same logits', async () => {
    const wide = { ...config, tieWordEmbeddings: true, vocabSize: 40_000, hiddenSize: 1000 }
    const row = (token: number) => Math.cos(token)
    const reads: number[] = []
    const source: WeightSource = {
      shape: (name) => (name === embeddingName ? [wide.vocabSize, wide.hiddenSize] : [wide.hiddenSize]),
      floats: async () => new Float32Array(wide.hiddenSize).fill(1),
      rows: async (_, first, count) => {
        reads.push(count)
        const rows = new Float32Array(count * 1000)
        for (let i = 0; i < count; i++) rows[i * 1000] = row(first + i)
        return rows
      },
    }
    const before = tf.memory().numTensors
    const head = await openHead(source, wide)
    const hidden = new Float32Array(2000).fill(2)
    hidden[1000] = -2
    const logits = await head.logits(hidden)
    expect(reads.length).toBeGreaterThan(1)
    expect(Math.max(...reads) * 4000).toBeLessThanOrEqual(2 ** 26)
    for (const token of [0, 1, 16_776, 16_777, 39_999]) {
      expect(logits[token]).toBeCloseTo(row(token), 4)
      expect(logits[40_000 + token]).toBeCloseTo(-row(token), 4)
    }
    const { allocate, release } = forwardKernels()
    const target = allocate(logits.length)
    expect(await head.logits(hidden, target)).toBe(target)
    const largest = logits.reduce((most, logit, i) => Math.max(most, Math.abs(logit - target[i])), 0)
    expect(largest).toBeLessThan(1e-6)
    release(target)
    head.dispose()
    expect(tf.memory().numTensors).toBe(before)
  })

  it('refuses hidden states that are not whole rows, and an array of another size for the logits', async () => {
    const head = await openHead(model().source, config)
    await expect(head.logits(new Float32Array(13))).rejects.toThrow(ShapeError)
    await expect(head.logits(new Float32Array(config.hiddenSize), new Float32Array(3))).rejects.toThrow(
      ShapeError,
    )
    head.dispose()
  })
})
