import { join } from 'node:path'
import * as tf from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import { CheckpointError, NumericError } from '../../../src/common/errors.js'
import {
  assertBlockTensors,
  type Block,
  disposeBlock,
  forkBlock,
  openBlock,
  reloadLinear,
  weightsOf,
} from '../../../src/model/decoder/block.js'
import type { DecoderDescription } from '../../../src/model/decoder/description.js'
import { embedTokens } from '../../../src/model/decoder/embedding.js'
import { blockLinears, isExpert, linearLayers } from '../../../src/model/decoder/linears.js'
import { runBlock } from '../../../src/model/decoder/run-block.js'
import type { WeightSource } from '../../../src/model/decoder/weights.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { forwardLogits } from '../../../src/model/passes/forward-logits.js'
import { type KernelArrays, watchKernelArrays } from '../../support/kernel-arrays.js'
import { openFixture, readTensors } from '../families/fixture.js'
import { randomTensors, smallConfig } from '../reference-forward.js'
import { sourceOf, type TestTensor } from '../tiny-llama.js'

/** A model and its tensors. */
interface Model {
  readonly config: DecoderDescription
  /** The block that is looked at. */
  readonly index: number
  readonly tokens: Int32Array
  readonly tensors: ReadonlyMap<string, TestTensor>
}

const json = { ...smallConfig, num_key_value_heads: 1, attention_bias: true }
const dense: Model = {
  config: describeDecoder({ ...json }, 'config.json'),
  index: 0,
  tokens: Int32Array.of(3, 1, 4, 1, 5, 9, 2),
  tensors: randomTensors(json, 5),
}
const { folder, config, tokens } = await openFixture('qwen2_moe-norm-step')
const index = config.blocks.findIndex(({ feedForward }) => feedForward.kind === 'routed')
const routed: Model = { config, index, tokens, tensors: await readTensors(join(folder, 'model.safetensors')) }

let arrays: KernelArrays
beforeAll(async () => {
  await startEngine('wasm')
  arrays = watchKernelArrays()
})
const inUse = () => [tf.memory().numTensors, arrays.inUse()]

/** The output of the block for the model's embedded tokens. */
async function outputOf(block: Block, { config, tokens, tensors }: Model): Promise<Float32Array> {
  return runBlock(block, await embedTokens(sourceOf(tensors), config, tokens), 1, tokens.length)
}

/** The same model with another tensor. */
function withTensor({ tensors, ...model }: Model, name: string, values: Float32Array): Model {
  return { ...model, tensors: new Map(tensors).set(name, { shape: tensors.get(name)!.shape, values }) }
}

const negated = ({ tensors }: Model, name: string) => tensors.get(name)!.values.map((value) => -value)

describe('openBlock', () => {
  it('reads each tensor of the block once, those of experts only when the block runs, and then each time', async () => {
    const reads: string[] = []
    const plain = sourceOf(routed.tensors)
    const source: WeightSource = {
      ...plain,
      floats: async (name) => {
        reads.push(name)
        return plain.floats(name)
      },
    }
    const description = routed.config.blocks[routed.index]
    const block = await openBlock(source, description)
    const own = [...routed.tensors.keys()].filter((name) => name.startsWith(description.prefix))
    const ofExperts = own.filter((name) => /\.experts\.\d/.test(name))
    expect(ofExperts.length).toBeGreaterThan(6)
    expect(reads.sort()).toEqual(own.filter((name) => !ofExperts.includes(name)).sort())
    for (const _ of [1, 2]) {
      reads.length = 0
      await outputOf(block, routed)
      // the two stages of an expert come one after the other, the weights of both may be read twice
      expect([...new Set(reads)].sort()).toEqual(ofExperts.sort())
    }
    disposeBlock(block)
  })

  it('has the layers of one expert in memory at most', async () => {
    const block = await openBlock(sourceOf(routed.tensors), routed.config.blocks[routed.index])
    const hidden = await embedTokens(sourceOf(routed.tensors), routed.config, routed.tokens)
    const loaded = () =>
      blockLinears(block.description).filter(
        (linear) => isExpert(block.description, linear) && block.linears.has(linear.kind),
      )
    const seen: number[] = []
    await runBlock(block, hidden, 1, routed.tokens.length, {
      onInput: () => seen.push(loaded().length),
    })
    expect(Math.max(...seen)).toBe(3)
    expect(loaded()).toEqual([])
    disposeBlock(block)
  })

  it('says which layer is not in memory', async () => {
    const block = await openBlock(sourceOf(routed.tensors), routed.config.blocks[routed.index])
    const expert = blockLinears(block.description).find((linear) => isExpert(block.description, linear))!
    expect(() => weightsOf(block, expert)).toThrow(`${expert.module} is not in memory`)
    disposeBlock(block)
  })
})

describe.each([
  ['a dense model', dense],
  ['a mixture of experts', routed],
])('reloadLinear in %s', (_, model) => {
  it.each(linearLayers(model.config, model.index).map(({ kind, name }) => [kind, name]))(
    'reads %s from the source again, and the block is that of a checkpoint with the other weight',
    async (kind, name) => {
      const other = withTensor(model, name, negated(model, name))
      let tensors = model.tensors
      const source: WeightSource = {
        shape: (asked) => sourceOf(tensors).shape(asked),
        floats: (asked) => sourceOf(tensors).floats(asked),
        rows: (asked, first, count) => sourceOf(tensors).rows(asked, first, count),
      }
      const before = inUse()
      const block = await openBlock(source, model.config.blocks[model.index])
      const old = await outputOf(block, model)
      tensors = other.tensors
      await reloadLinear(block, kind)
      const replaced = await outputOf(block, model)
      const fresh = await openBlock(sourceOf(other.tensors), model.config.blocks[model.index])
      expect(replaced).toEqual(await outputOf(fresh, model))
      expect(replaced).not.toEqual(old)
      disposeBlock(block)
      disposeBlock(fresh)
      expect(inUse()).toEqual(before)
    },
  )
})

describe.each([
  ['a dense model', dense],
  ['a mixture of experts', routed],
])('forkBlock in %s', (_, model) => {
  it('changes its own weights and never those of the original', async () => {
    const before = inUse()
    const block = await openBlock(sourceOf(model.tensors), model.config.blocks[model.index])
    const original = await outputOf(block, model)
    const reads: string[] = []
    const { kind, name } = linearLayers(model.config, model.index).at(-1)!
    const changed = sourceOf(withTensor(model, name, negated(model, name)).tensors)
    const fork = forkBlock(block, {
      ...changed,
      floats: async (asked) => {
        reads.push(asked)
        return changed.floats(asked)
      },
    })
    expect(reads).toEqual([])
    await reloadLinear(fork, kind)
    expect(await outputOf(fork, model)).not.toEqual(original)
    expect(await outputOf(block, model)).toEqual(original)
    disposeBlock(fork)
    // the fork was made of the original's weights, whose memory it does not own
    expect(await outputOf(block, model)).toEqual(original)
    disposeBlock(block)
    expect(inUse()).toEqual(before)
  })
})

describe('loading weights', () => {
  const cases = [dense, routed].flatMap((model) =>
    [...model.tensors.keys()].map((name) => [model.config.family, name, model] as const),
  )

  it.each(cases)(
    'of %s names %s when it is missing, has another shape or holds a NaN',
    async (_, name, model) => {
      const { config, tokens } = model
      const forward = (tensors: ReadonlyMap<string, TestTensor>) =>
        forwardLogits(sourceOf(tensors), config, tokens, 1).catch((error) => error)
      const before = inUse()
      const { shape, values } = model.tensors.get(name)!

      const missing = new Map(model.tensors)
      missing.delete(name)
      const turned = new Map(model.tensors)
      turned.set(name, { shape: [...shape.slice(0, -1), shape[shape.length - 1] + 1], values })
      const faults = [
        { tensors: missing, message: `${name}: no such tensor` },
        { tensors: turned, message: `${name}: found the shape` },
      ]
      for (const { tensors, message } of faults) {
        const error = await forward(tensors)
        expect(error).toBeInstanceOf(CheckpointError)
        expect(error.message).toContain(message)
        expect(error.message).toContain('config.json asks for')
      }

      const damaged = values.slice()
      damaged[7 % damaged.length] = Number.NaN
      const error = await forward(withTensor(model, name, damaged).tensors)
      expect(error).toBeInstanceOf(NumericError)
      expect(error.message).toContain(name)
      expect(inUse()).toEqual(before)
    },
  )

  it.each(cases.filter(([, name, { config, index }]) => name.startsWith(config.blocks[index].prefix)))(
    'of %s is preceded by a check that reads nothing and names %s when it is missing or has another shape',
    (_, name, { config, index, tensors }) => {
      const { shape } = tensors.get(name)!
      const source = (found: readonly number[] | undefined): WeightSource => ({
        ...sourceOf(tensors),
        shape: (asked) => (asked === name ? found : tensors.get(asked)?.shape),
        floats: () => {
          throw new Error('a tensor was read')
        },
      })
      const check = (found: readonly number[] | undefined) => () =>
        assertBlockTensors(source(found), config.blocks[index])
      expect(check(shape)).not.toThrow()
      expect(check(undefined)).toThrow(`${name}: no such tensor`)
      expect(check([...shape.slice(0, -1), shape[shape.length - 1] + 1])).toThrow(`${name}: found the shape`)
    },
  )
})
