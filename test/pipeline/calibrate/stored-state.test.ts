import * as tf from '@tensorflow/tfjs-core'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { ShapeError } from '../../../src/common/errors.js'
import { matrix } from '../../../src/common/matrix.js'
import { type Block, disposeBlock, openBlock, withLinears } from '../../../src/model/decoder/block.js'
import type { BlockDescription, LinearDescription } from '../../../src/model/decoder/description.js'
import { runBlock } from '../../../src/model/decoder/run-block.js'
import { blockStages } from '../../../src/model/decoder/stages.js'
import type { WeightSource } from '../../../src/model/decoder/weights.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { useEngineProducts, useOwnProducts } from '../../../src/model/ops/tensors/products.js'
import { runStored, type StoredTokens, visitStored } from '../../../src/pipeline/calibrate/stored-state.js'
import { fixtureOfEachFamily, openFixture } from '../../model/families/fixture.js'
import { type KernelArrays, watchKernelArrays } from '../../support/kernel-arrays.js'

const sequences = 2
const length = 20

let arrays: KernelArrays
beforeAll(async () => {
  await startEngine('wasm')
  arrays = watchKernelArrays()
})
afterEach(useOwnProducts)
const inUse = () => [tf.memory().numTensors, arrays.inUse()]

const stored = (hidden: Float32Array): StoredTokens => ({
  sequences,
  state: { residual: matrix(sequences * length, hidden.length / (sequences * length), hidden) },
})

/** Runs `use` on every block of a fixture and what reaches it there. */
async function forEachBlock(
  name: string,
  use: (block: Block, hidden: Float32Array, source: WeightSource) => Promise<void>,
): Promise<void> {
  const { config, source, hidden } = await openFixture(name)
  for (const [index, description] of config.blocks.entries()) {
    const block = await openBlock(source, description)
    try {
      await use(block, hidden[index], source)
    } finally {
      disposeBlock(block)
    }
  }
}

/** What layers of a block read, by their kinds, and the block's output, in one go. */
async function runWhole(block: Block, hidden: Float32Array) {
  const inputs = new Map<string, Float32Array>()
  const output = await runBlock(block, hidden, sequences, length, {
    onInput({ linears }, input) {
      const values = input.data.slice(0, input.rows * input.cols)
      for (const { kind } of linears) inputs.set(kind, values)
    },
  })
  return { inputs, output }
}

/** The same, stage by stage. */
async function runStaged(block: Block, hidden: Float32Array, keepsGated: boolean) {
  const inputs = new Map<string, Float32Array>()
  let tokens = stored(hidden)
  for (const stage of blockStages(block.description)) {
    await withLinears(block, stage.uses, () => {
      visitStored(block, stage, tokens, length, ({ data, rows, cols }) => {
        for (const { kind } of stage.linears) inputs.set(kind, data.slice(0, rows * cols))
      })
      const state = runStored(block, stage, tokens, length, () => keepsGated)
      if (!keepsGated) expect(state.gated).toBeUndefined()
      tokens = { sequences, state }
    })
  }
  return { inputs, output: tokens.state.residual!.data }
}

describe.each([
  ['the kernels', useOwnProducts],
  ["the engine's own operations", useEngineProducts],
])('a block taken stage by stage on %s', (_, products) => {
  it.each(fixtureOfEachFamily)(
    'has the inputs and the output of the block run at once, gated inputs kept or not: %s',
    async (name) => {
      products()
      const before = inUse()
      await forEachBlock(name, async (block, hidden) => {
        const expected = await runWhole(block, hidden)
        expect(expected.inputs.size).toBeGreaterThan(3)
        const untouched = hidden.slice()
        for (const keepsGated of [false, true]) {
          expect(await runStaged(block, hidden, keepsGated)).toEqual(expected)
        }
        expect(hidden).toEqual(untouched)
      })
      expect(inUse()).toEqual(before)
    },
  )
})

/** `x W^T + b` in float64. */
async function productOf(
  source: WeightSource,
  { module, rows, cols, bias }: LinearDescription,
  input: Float32Array,
): Promise<Float64Array> {
  const weight = await source.floats(`${module}.weight`)
  const biases = bias ? await source.floats(`${module}.bias`) : undefined
  const tokens = input.length / cols
  const output = new Float64Array(tokens * rows)
  for (let token = 0; token < tokens; token++) {
    for (let row = 0; row < rows; row++) {
      let sum = biases?.[row] ?? 0
      for (let i = 0; i < cols; i++) sum += weight[row * cols + i] * input[token * cols + i]
      output[token * rows + row] = sum
    }
  }
  return output
}

/** Whether a block adds what its layers give to the residual stream as it is, with no norm behind. */
const addsPlainly = ({ norms }: BlockDescription) => ({
  attention: norms.attentionOutput === undefined,
  feedForward: norms.feedForwardOutput === undefined,
})

describe('the residual scale of a stage', () => {
  it.each(fixtureOfEachFamily)(
    'is what the outputs of its layers are multiplied by on their way: %s',
    async (name) => {
      await forEachBlock(name, async (block, hidden, source) => {
        const { description } = block
        const reaching: string[] = []
        let tokens = stored(hidden)
        for (const stage of blockStages(description)) {
          await withLinears(block, stage.uses, async () => {
            let input = new Float32Array()
            visitStored(block, stage, tokens, length, ({ data, rows, cols }) => {
              input = data.slice(0, rows * cols)
            })
            const state = runStored(block, stage, tokens, length, () => true)
            if (stage.residualScale !== undefined) {
              const [linear, ...others] = stage.linears
              expect(others).toEqual([])
              reaching.push(linear.kind)
              const product = await productOf(source, linear, input)
              const before = tokens.state.residual!.data
              const largest = before.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
              for (const [i, value] of product.entries()) {
                const expected = before[i] + stage.residualScale * value
                expect(Math.abs(state.residual!.data[i] - expected)).toBeLessThan(
                  1e-5 * (largest + Math.abs(value)),
                )
              }
            }
            tokens = { sequences, state }
          })
        }
        const { attention, feedForward } = description
        const plain = addsPlainly(description)
        expect(reaching).toEqual([
          ...(plain.attention ? [attention.output.kind] : []),
          ...(plain.feedForward && feedForward.kind !== 'routed' ? [feedForward.down.kind] : []),
        ])
      })
    },
  )
})

describe('runStored', () => {
  it('hands on what a stage does not change as the same array', async () => {
    await forEachBlock('qwen2_moe-mlp-only', async (block, hidden) => {
      if (block.description.feedForward.kind !== 'routed') return
      let tokens = stored(hidden)
      let experts = 0
      for (const stage of blockStages(block.description)) {
        await withLinears(block, stage.uses, () => {
          const state = runStored(block, stage, tokens, length, () => true)
          if (stage.expert !== undefined) {
            experts++
            const { residual, expertInput, routes } = tokens.state
            expect(state.residual).toBe(residual)
            expect(state.expertInput).toBe(expertInput)
            expect(state.routes?.weights).toBe(routes?.weights)
          }
          tokens = { sequences, state }
        })
      }
      expect(experts).toBeGreaterThan(3)
      // nothing is carried on to the next block but the residual stream
      expect(Object.keys(tokens.state)).toEqual(['residual'])
    })
  })

  it('passes over an expert that gets no token, and shows nothing of it', async () => {
    await forEachBlock('mixtral-full', async (block, hidden) => {
      const width = hidden.length / (sequences * length)
      let tokens: StoredTokens = {
        sequences: 1,
        state: { residual: matrix(1, width, hidden.slice(0, width)) },
      }
      const seen = new Set<number>()
      let passed = 0
      for (const stage of blockStages(block.description)) {
        await withLinears(block, stage.uses, () => {
          visitStored(block, stage, tokens, 1, () => stage.expert !== undefined && seen.add(stage.expert))
          const state = runStored(block, stage, tokens, 1, () => true)
          if (stage.expert !== undefined && !seen.has(stage.expert)) {
            passed++
            expect(state).toEqual(tokens.state)
          }
          tokens = { sequences: 1, state }
        })
      }
      const { feedForward } = block.description
      if (feedForward.kind !== 'routed') throw new Error('not a mixture of experts')
      expect(seen.size).toBe(feedForward.active)
      expect(passed).toBe(2 * (feedForward.experts.length - feedForward.active))
    })
  })

  it('refuses tokens of another size', async () => {
    await forEachBlock('llama-mha', async (block, hidden) => {
      const tokens = { ...stored(hidden), sequences: 3 }
      const [stage] = blockStages(block.description)
      expect(() => visitStored(block, stage, tokens, length, () => {})).toThrow(ShapeError)
      expect(() => runStored(block, stage, tokens, length, () => true)).toThrow(
        '3 sequences of 20 tokens need 60 rows of hidden states, found 40',
      )
    })
  })
})
