import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { matrix } from '../../../../src/common/matrix.js'
import { HessianAccumulator } from '../../../../src/hessian/hessian.js'
import { quantizeLayer } from '../../../../src/index.js'
import { attend } from '../../../../src/kernels/reference/attention.js'
import { disposeBlock, openBlock, withLinears } from '../../../../src/model/decoder/block.js'
import type { AttentionDescription } from '../../../../src/model/decoder/description.js'
import { blockStages } from '../../../../src/model/decoder/stages.js'
import { startEngine } from '../../../../src/model/ops/engine.js'
import { runningOps } from '../../../../src/model/ops/running.js'
import { dequantizeLayer } from '../../../../src/packing/vq-layer.js'
import {
  attentionWeights,
  weightTokens,
} from '../../../../src/pipeline/calibrate/statistics/token-weights.js'
import { fixtureOfEachFamily, openFixture } from '../../../model/families/fixture.js'
import { normals } from '../../../support/random-matrix.js'
import { expectClose } from '../../../support/tolerance.js'

type Shape = Pick<AttentionDescription, 'heads' | 'kvHeads' | 'headDim' | 'scale' | 'softCap' | 'window'>

const shapes = fc
  .record({
    sequences: fc.integer({ min: 1, max: 3 }),
    length: fc.integer({ min: 1, max: 70 }),
    kvHeads: fc.integer({ min: 1, max: 3 }),
    group: fc.integer({ min: 1, max: 3 }),
    headDim: fc.integer({ min: 1, max: 9 }),
    softCap: fc.option(fc.constantFrom(0.5, 2, 50), { nil: undefined }),
    window: fc.option(fc.integer({ min: 1, max: 80 }), { nil: undefined }),
    seed: fc.nat(1e6),
  })
  .map(({ group, ...shape }) => ({ ...shape, heads: group * shape.kvHeads, scale: shape.headDim ** -0.5 }))

/** Queries and keys of these sizes. */
function operandsOf(
  { heads, kvHeads, headDim }: Shape,
  { tokens, seed }: { readonly tokens: number; readonly seed: number },
) {
  return {
    queries: normals(tokens * heads * headDim, seed),
    keys: normals(tokens * kvHeads * headDim, seed + 1),
  }
}

/** What attention gives in float64, by the kernels' oracle. */
function attended(
  shape: Shape & { readonly sequences: number; readonly length: number },
  { queries, keys }: ReturnType<typeof operandsOf>,
  values: Float32Array,
): Float32Array {
  const output = new Float32Array(queries.length)
  const { softCap, window, length } = shape
  attend({ ...shape, softCap, window, position: 0, capacity: length, queries, keys, values, output })
  return output
}

describe('attentionWeights', () => {
  it('of values: what an error of a token’s values does to the output of attention', () => {
    fc.assert(
      fc.property(shapes, fc.nat(), (shape, drawn) => {
        const tokens = shape.sequences * shape.length
        const operands = operandsOf(shape, { tokens, seed: shape.seed })
        const { values: weights } = attentionWeights(operands, shape as never, shape)
        const token = drawn % tokens
        // each value head's first number is off by one, and the output of what is off is all that there is
        const error = new Float32Array(tokens * shape.kvHeads * shape.headDim)
        for (let head = 0; head < shape.kvHeads; head++) {
          error[(token * shape.kvHeads + head) * shape.headDim] = 1
        }
        const effect = attended(shape, operands, error).reduce((sum, value) => sum + value ** 2, 0)
        expect(Math.abs(weights[token] - effect)).toBeLessThan(1e-5 * (1 + effect))
      }),
    )
  })

  it('of keys: how far its shares move with the scores of a token', () => {
    fc.assert(
      fc.property(shapes, fc.nat(), (shape, drawn) => {
        const { sequences, length, headDim, heads, kvHeads } = shape
        const tokens = sequences * length
        const operands = operandsOf(shape, { tokens, seed: shape.seed })
        const uncapped = { ...shape, softCap: undefined }
        const { keys: weights } = attentionWeights(operands, uncapped as never, shape)
        const token = drawn % tokens
        // where the token's values are one and all others zero, each head gives the token's share
        const isToken = new Float32Array(tokens * kvHeads * headDim)
        isToken.fill(1, token * kvHeads * headDim, (token + 1) * kvHeads * headDim)
        const shares = attended(uncapped, operands, isToken)
        let sum = 0
        for (let row = 0; row < tokens * heads; row++)
          sum += shares[row * headDim] * (1 - shares[row * headDim])
        expect(Math.abs(weights[token] - sum)).toBeLessThan(1e-5 * (1 + sum))
      }),
    )
  })

  it('of a long sequence see each query once where heads are alike', () => {
    const length = 300
    const [one, two] = [1, 2].map((heads) => ({ heads, kvHeads: 1, headDim: 4, scale: 0.5 }))
    const { queries, keys } = operandsOf(one, { tokens: length, seed: 3 })
    const twice = Float32Array.from({ length: 2 * queries.length }, (_, i) => {
      return queries[Math.floor(i / 8) * 4 + (i % 4)]
    })
    const all = attentionWeights({ queries, keys }, one as never, { sequences: 1, length })
    const shared = attentionWeights({ queries: twice, keys }, two as never, { sequences: 1, length })
    for (const part of ['keys', 'values'] as const) {
      for (let i = 0; i < length; i++) expect(shared[part][i]).toBeCloseTo(all[part][i], 4)
    }
  })
})

describe('tokenWeights', () => {
  beforeAll(async () => {
    await startEngine('wasm')
  })

  it.each(fixtureOfEachFamily)('of %s come from what its attention computes with', async (name) => {
    const { config, source, hidden } = await openFixture(name)
    for (const [index, description] of config.blocks.entries()) {
      const block = await openBlock(source, description)
      const [stage] = blockStages(description)
      const tokens = { sequences: hidden[index].length / (20 * config.hiddenSize), length: 20, position: 0 }
      const run = { ops: runningOps(), block, stretches: [{ tokens, span: 20 }] }
      await withLinears(block, stage.uses, async () => {
        run.ops.tidy(() => {
          const { ops } = run
          const residual = ops.upload(hidden[index], tokens.sequences * 20, config.hiddenSize)
          const input = stage.input(run, { residual })
          const { queries, keys, values } = stage.operands!(run, input)
          const { softCap, window, ...shape } = description.attention
          const ours = ops.attend(queries, keys, values, tokens, { ...shape, softCap, window })
          const theirs = stage.advance(run, { residual }, input).attended!
          const size = ops.shape(ours)[0] * ops.shape(ours)[1]
          expectClose(ops.read(ours).slice(0, size), ops.read(theirs).slice(0, size), 1e-6)
        })
      })
      disposeBlock(block)
    }
  })
})

describe('weightTokens', () => {
  it('makes the Hessian that of tokens seen as often as they count', () => {
    const tokens = matrix(6, 5, normals(30, 1))
    const counts = [3, 1, 0, 2, 1, 5]
    const [weighted, repeated] = [new HessianAccumulator(5), new HessianAccumulator(5)]
    weighted.add(weightTokens(tokens, Float32Array.from(counts), (size) => new Float32Array(size)))
    for (const [i, count] of counts.entries()) {
      for (let time = 0; time < count; time++)
        repeated.add(matrix(1, 5, tokens.data.subarray(5 * i, 5 * i + 5)))
    }
    const [ours, theirs] = [weighted.hessian(), repeated.hessian()]
    for (const [i, value] of theirs.data.entries()) expect(ours.data[i]).toBeCloseTo((value * 12) / 6, 5)
  })
})

describe('values that a head leaves to the first token', () => {
  it('are quantized for what attention gives of them', async () => {
    const [length, width] = [128, 64]
    const shape = { heads: 1, kvHeads: 1, headDim: 8, scale: 1, softCap: undefined, window: undefined }
    const operands = operandsOf(shape, { tokens: length, seed: 5 })
    for (let token = 0; token < length; token++) operands.queries[8 * token] = 3
    operands.keys[0] = 3
    const weight = matrix(64, width, normals(64 * width, 6))
    const inputs = matrix(length, width, normals(length * width, 7))
    const { values: weights } = attentionWeights(operands, shape as never, { sequences: 1, length })
    const effectOf = async (counts: Float32Array | undefined) => {
      const hessian = new HessianAccumulator(width)
      hessian.add(weightTokens(inputs, counts, (size) => new Float32Array(size)))
      const layer = await quantizeLayer(weight, hessian.hessian(), { bits: 2 })
      const quantized = dequantizeLayer(layer)
      let effect = 0
      for (let row = 0; row < weight.rows; row += 8) {
        const values = new Float32Array(length * 8)
        for (let token = 0; token < length; token++) {
          for (let i = 0; i < 8; i++) {
            for (let j = 0; j < width; j++) {
              const at = (row + i) * width + j
              values[8 * token + i] += (quantized.data[at] - weight.data[at]) * inputs.data[token * width + j]
            }
          }
        }
        const output = attended({ ...shape, sequences: 1, length }, operands, values)
        effect += output.reduce((sum, value) => sum + value ** 2, 0)
      }
      return effect
    }
    expect(await effectOf(weights)).toBeLessThan(0.5 * (await effectOf(undefined)))
  })
})
