import * as tf from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import { NumericError, ShapeError } from '../../../src/common/errors.js'
import { disposeBlock, openBlock } from '../../../src/model/decoder/block.js'
import { embedTokens } from '../../../src/model/decoder/embedding.js'
import { allLinearLayers } from '../../../src/model/decoder/linears.js'
import { type InputListener, runBlock } from '../../../src/model/decoder/run-block.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { useEngineProducts, useOwnProducts } from '../../../src/model/ops/tensors/products.js'
import { type KernelArrays, watchKernelArrays } from '../../support/kernel-arrays.js'
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

let arrays: KernelArrays
beforeAll(async () => {
  await startEngine('wasm')
  arrays = watchKernelArrays()
})
const inUse = () => [tf.memory().numTensors, arrays.inUse()]

describe('runBlock', () => {
  it('hands out the input of every linear layer, as a brute-force pass computes it', async () => {
    const { tensors, source } = model()
    const expected = referenceForward(json, tensors, tokens).inputs
    let hidden = await embedTokens(source, config, Int32Array.from(tokens))
    const seen: string[] = []
    for (const description of config.blocks) {
      const block = await openBlock(source, description)
      const onInput: InputListener = ({ linears }, input) => {
        for (const { module } of linears) {
          seen.push(module)
          const rows = expected.get(module)!
          expect([input.rows, input.cols]).toEqual([tokens.length, rows[0].length])
          rows.flat().forEach((value, i) => {
            expect(Math.abs(input.data[i] - value)).toBeLessThan(1e-4)
          })
        }
      }
      hidden = await runBlock(block, hidden, 1, tokens.length, { onInput })
      disposeBlock(block)
    }
    expect(seen.map((module) => `${module}.weight`)).toEqual(allLinearLayers(config).map(({ name }) => name))
  })

  it.each<[string, ReferenceConfig]>([
    ['biases', { ...json, attention_bias: true, mlp_bias: true }],
    ['a window', { ...json, model_type: 'mistral', sliding_window: 4 }],
  ])("agrees with the engine's own operations and is not them: %s", async (_, other) => {
    const otherConfig = describeDecoder({ ...other }, 'config.json')
    const block = await openBlock(sourceOf(randomTensors(other, 5)), otherConfig.blocks[0])
    const hidden = await embedTokens(
      model().source,
      config,
      Int32Array.from([...tokens, ...tokens.toReversed()]),
    )
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
    const block = await openBlock(source, config.blocks[0])
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
    const block = await openBlock(source, config.blocks[0])
    await expect(runBlock(block, new Float32Array(10), 1, 3)).rejects.toThrow(ShapeError)
    disposeBlock(block)
  })

  it('reports an overflow by block and position instead of handing on infinities', async () => {
    const { source } = model((tensors) => {
      tensors.get('model.layers.1.mlp.up_proj.weight')!.values.fill(1e5)
      tensors.get('model.layers.1.mlp.down_proj.weight')!.values.fill(3e38)
    })
    const block = await openBlock(source, config.blocks[1])
    const hidden = await embedTokens(source, config, Int32Array.of(3))
    await expect(runBlock(block, hidden, 1, 1)).rejects.toThrow(NumericError)
    await expect(runBlock(block, hidden, 1, 1)).rejects.toThrow(/block 1: .* position 0/)
    disposeBlock(block)
  })

  it.each([
    ['the kernels', useOwnProducts],
    ["the engine's own operations", useEngineProducts],
  ])('leaves nothing in memory behind, whether it succeeds or fails, on %s', async (_, products) => {
    products()
    const { source } = model()
    const before = inUse()
    const block = await openBlock(source, config.blocks[0])
    const hidden = await embedTokens(source, config, Int32Array.from(tokens))
    await runBlock(block, hidden, 1, tokens.length, { onInput: () => {} })
    // what the engine remembers of weights stays as long as the block
    const loaded = inUse()
    await runBlock(block, hidden, 1, tokens.length)
    let stages = 0
    const stop = () => {
      if (++stages === 3) throw new Error('the listener fails')
    }
    await expect(runBlock(block, hidden, 1, tokens.length, { onInput: stop })).rejects.toThrow(
      'the listener fails',
    )
    expect(inUse()).toEqual(loaded)
    disposeBlock(block)
    expect(inUse()).toEqual(before)
    useOwnProducts()
  })
})
