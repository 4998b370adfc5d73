import * as tf from '@tensorflow/tfjs-core'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { ShapeError } from '../../../src/errors.js'
import { passStage, visitStage, type WaitingTokens } from '../../../src/model/block-stages.js'
import {
  disposeBlock,
  forkBlock,
  type LlamaBlock,
  loadBlock,
  replaceLinear,
} from '../../../src/model/decoder/block.js'
import { embedTokens } from '../../../src/model/decoder/embedding.js'
import { type LinearInputGroup, linearInputGroups } from '../../../src/model/decoder/linears.js'
import { runBlock } from '../../../src/model/decoder/run-block.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { useEngineProducts, useOwnProducts } from '../../../src/model/ops/tensors/products.js'
import { randomTensors, smallConfig } from '../../model/reference-forward.js'
import { sourceOf } from '../../model/tiny-llama.js'

const json = { ...smallConfig, num_key_value_heads: 1 }
const config = describeDecoder({ ...json }, 'config.json')
const source = sourceOf(randomTensors(json, 5))
const tokens = Int32Array.of(3, 1, 4, 1, 5, 9, 2, 2, 7, 1, 8, 2, 8, 1)
const [sequences, length] = [2, 7]
let embedded: Float32Array

beforeAll(async () => {
  await startEngine('wasm')
  embedded = await embedTokens(source, config, tokens)
})

afterEach(useOwnProducts)

function waiting(keepsGated = false): WaitingTokens {
  const attended = new Float32Array(tokens.length * config.heads * config.headDim)
  const gated = keepsGated ? new Float32Array(tokens.length * config.intermediateSize) : undefined
  return { sequences, length, hidden: embedded.slice(), attended, gated }
}

async function withBlock(use: (block: LlamaBlock) => Promise<void>): Promise<void> {
  const block = await loadBlock(source, config, 0)
  try {
    await use(block)
  } finally {
    disposeBlock(block)
  }
}

describe('a block taken stage by stage', () => {
  it.each([
    ['the kernels', useOwnProducts],
    ['the engine', useEngineProducts],
  ])(
    'has the inputs and the output of the block run at once by %s, gated inputs kept or not',
    (_, products) =>
      withBlock(async (block) => {
        products()
        const before = tf.memory().numTensors
        const expected = new Map<LinearInputGroup, Float32Array>()
        const output = await runBlock(block, embedded, sequences, length, {
          onInput: (group, input) => expected.set(group, input.data.slice()),
        })
        expect(expected.size).toBe(4)
        for (const stage of [waiting(false), waiting(true)]) {
          for (const group of linearInputGroups) {
            let seen: Float32Array | undefined
            visitStage(block, group, stage, (input) => {
              seen = input.data.slice()
            })
            expect(seen).toEqual(expected.get(group))
            await passStage(block, group, stage)
          }
          expect(stage.hidden).toEqual(output)
        }
        expect(tf.memory().numTensors).toBe(before)
      }),
  )

  it('shows the residual stream that the output of a group is added to', () =>
    withBlock(async (block) => {
      const stage = waiting()
      const residuals: (Float32Array | undefined)[] = []
      for (const group of linearInputGroups) {
        visitStage(block, group, stage, (_, residual) => residuals.push(residual?.data.slice()))
        await passStage(block, group, stage)
      }
      expect(residuals.map((residual) => residual !== undefined)).toEqual([false, true, false, true])
      expect(residuals[1]).toEqual(embedded)
      // what the residual lacks of the block's output is what the last layer gave
      const silent = forkBlock(block)
      replaceLinear(silent, 'mlp.down_proj', new Float32Array(config.hiddenSize * config.intermediateSize))
      expect(residuals[3]).toEqual(await runBlock(silent, embedded, sequences, length))
      disposeBlock(silent)
    }))

  it('refuses tokens of another size', () =>
    withBlock(async (block) => {
      const stage = { ...waiting(), sequences: 3 }
      expect(() => visitStage(block, linearInputGroups[0], stage, () => {})).toThrow(ShapeError)
      await expect(passStage(block, linearInputGroups[0], stage)).rejects.toThrow(ShapeError)
    }))
})

describe('forkBlock', () => {
  it('changes its own weights and never those of the original', () =>
    withBlock(async (block) => {
      const before = await runBlock(block, embedded, sequences, length)
      const tensors = tf.memory().numTensors
      const fork = forkBlock(block)
      for (const scale of [0, 1]) {
        replaceLinear(
          fork,
          'mlp.up_proj',
          new Float32Array(config.hiddenSize * config.intermediateSize).fill(scale),
        )
      }
      expect(tf.memory().numTensors).toBe(tensors + 1)
      expect(await runBlock(fork, embedded, sequences, length)).not.toEqual(before)
      expect(await runBlock(block, embedded, sequences, length)).toEqual(before)
      disposeBlock(fork)
    }))
})
