import { beforeAll, describe, expect, it } from 'vitest'
import { quantizeGptq } from '../../../../src/baselines/gptq.js'
import { NumericError } from '../../../../src/common/errors.js'
import { type Matrix, matrix } from '../../../../src/common/matrix.js'
import { randomGenerator, randomNormal } from '../../../../src/common/random.js'
import { reconstructionError } from '../../../../src/gptvq/reconstruction-error.js'
import { type Block, disposeBlock, openBlock, withLinears } from '../../../../src/model/decoder/block.js'
import type { BlockState, Stage } from '../../../../src/model/decoder/block-state.js'
import { blockStages } from '../../../../src/model/decoder/stages.js'
import { startEngine } from '../../../../src/model/ops/engine.js'
import { dequantize } from '../../../../src/packing/quantized-layer.js'
import {
  batchInMemory,
  calibrationStream,
  passStage,
} from '../../../../src/pipeline/calibrate/calibration-stream.js'
import {
  collectExpertStatistics,
  shrink,
} from '../../../../src/pipeline/calibrate/statistics/expert-statistics.js'
import { visitStored } from '../../../../src/pipeline/calibrate/stored-state.js'
import { openFixture } from '../../../model/families/fixture.js'
import { gaussianMatrix, hessianOf } from '../../../support/random-matrix.js'
import { expectClose, rejectionOf } from '../../../support/tolerance.js'

beforeAll(async () => {
  await startEngine('wasm')
})

const fourthPowers = ({ rows, cols, data }: Matrix) => {
  let sum = 0
  for (let token = 0; token < rows; token++) {
    sum += data.subarray(token * cols, (token + 1) * cols).reduce((square, x) => square + x * x, 0) ** 2
  }
  return sum
}

const squaredDistance = (a: Matrix, b: Matrix) =>
  a.data.reduce((sum, value, i) => sum + (value - b.data[i]) ** 2, 0)

/** What {@link shrink} makes of an expert's tokens. */
const shrunk = (tokens: Matrix, pool: Matrix) =>
  shrink(hessianOf(tokens), pool, tokens.rows, fourthPowers(tokens))

/** A distribution of inputs `M z`, whose features are correlated and whose directions differ in size. */
interface Inputs {
  readonly mixing: Matrix
  /** The Hessian of endlessly many tokens. */
  readonly exact: Matrix
}

const size = 24

function inputsOf(mixing: Matrix): Inputs {
  const scaled = matrix(
    size,
    size,
    mixing.data.map((value, i) => value * 0.85 ** (i % size)),
  )
  const exact = matrix(size, size)
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) {
      let sum = 0
      for (let k = 0; k < size; k++) sum += scaled.data[i * size + k] * scaled.data[j * size + k]
      exact.data[i * size + j] = 2 * sum
    }
  }
  return { mixing: scaled, exact }
}

/** A distribution near another one. */
const near = (shared: Matrix, difference: number, seed: number) => {
  const own = gaussianMatrix(size, size, seed)
  return inputsOf(
    matrix(
      size,
      size,
      shared.data.map((value, i) => value + difference * own.data[i]),
    ),
  )
}

function drawTokens({ mixing }: Inputs, count: number, seed: number): Matrix {
  const random = randomGenerator(seed)
  const tokens = matrix(count, size)
  for (let token = 0; token < count; token++) {
    const z = Array.from({ length: size }, () => randomNormal(random))
    for (let i = 0; i < size; i++) {
      tokens.data[token * size + i] = z.reduce((sum, own, k) => sum + mixing.data[i * size + k] * own, 0)
    }
  }
  return tokens
}

/** Eight experts with inputs of their own; the first is looked at. */
function experts(difference: number, seed: number) {
  const shared = gaussianMatrix(size, size, 1000 + seed)
  const all = Array.from({ length: 8 }, (_, i) => near(shared, difference, 100 * seed + i))
  const pool = matrix(8 * 50, size)
  for (const [i, inputs] of all.entries()) {
    pool.data.set(drawTokens(inputs, 50, 5000 + 100 * seed + i).data, i * 50 * size)
  }
  return { own: all[0], pool: hessianOf(pool) }
}

describe('shrink', () => {
  const { own, pool } = experts(0.5, 1)

  it('gives the pool for no token and for one', () => {
    const one = shrunk(drawTokens(own, 1, 3), pool)
    expect(one).toEqual({ hessian: pool, pooled: 1 })
    expect(shrink(matrix(size, size), pool, 0, 0)).toEqual({ hessian: pool, pooled: 1 })
  })

  it('gives the share that the formula says, from 0 to 1, and the mean with that share', () => {
    for (const count of [2, 3, 7, 20, 60, 300]) {
      const tokens = drawTokens(own, count, count)
      const mine = hessianOf(tokens)
      const { hessian, pooled } = shrunk(tokens, pool)
      // the squared error of the mean of x x^T, from how far each is from the mean
      let spread = 0
      for (let t = 0; t < count; t++) {
        for (let i = 0; i < size; i++) {
          for (let j = 0; j < size; j++) {
            const product = tokens.data[t * size + i] * tokens.data[t * size + j]
            spread += (product - mine.data[i * size + j] / 2) ** 2
          }
        }
      }
      const error = spread / (count * (count - 1))
      expect(pooled).toBeCloseTo(Math.min(1, error / (squaredDistance(mine, pool) / 4)), 5)
      expectClose(
        hessian.data,
        mine.data.map((value, i) => (1 - pooled) * value + pooled * pool.data[i]),
        1e-5,
      )
    }
  })

  it('trusts many tokens of an expert whose inputs are its own: the share falls like 1 / tokens', () => {
    const shares = [400, 1600, 6400].map((count) => shrunk(drawTokens(own, count, 9), pool).pooled)
    expect(shares[0]).toBeLessThan(0.1)
    expect(shares[2]).toBeLessThan(0.01)
    for (const i of [0, 1]) {
      expect(shares[i] / shares[i + 1]).toBeGreaterThan(2.5)
      expect(shares[i] / shares[i + 1]).toBeLessThan(6)
    }
  })

  it('trusts the pool more where few tokens are no different from it', () => {
    const same = hessianOf(drawTokens(own, 4000, 1))
    const meanShare = (of: Matrix) => mean((seed) => shrunk(drawTokens(own, 20, seed), of).pooled)
    expect(meanShare(same)).toBeGreaterThan(0.7)
    expect(meanShare(pool)).toBeLessThan(meanShare(same))
  })

  it('leaves what equals the pool as it is', () => {
    const tokens = drawTokens(own, 30, 5)
    const mine = hessianOf(tokens)
    expect(shrink(mine, mine, 30, fourthPowers(tokens)).hessian.data).toEqual(mine.data)
  })

  /** Mean squared distances from the Hessian of endlessly many tokens of the expert. */
  function distances(difference: number, count: number) {
    const sums = { own: 0, pool: 0, mixed: 0 }
    for (let seed = 0; seed < 10; seed++) {
      const { own, pool } = experts(difference, seed)
      const tokens = drawTokens(own, count, 70 + seed)
      sums.own += squaredDistance(hessianOf(tokens), own.exact)
      sums.pool += squaredDistance(pool, own.exact)
      sums.mixed += squaredDistance(shrunk(tokens, pool).hessian, own.exact)
    }
    return sums
  }

  it.each([0.3, 0.6])(
    'is nearer to what all tokens of the expert would give than its own tokens and the pool are: difference %f',
    (difference) => {
      for (const count of [size, 2 * size]) {
        const { own, pool, mixed } = distances(difference, count)
        expect(mixed).toBeLessThan(Math.min(own, pool))
      }
      for (const count of [4, 10, 400]) {
        const { own, mixed } = distances(difference, count)
        expect(mixed).toBeLessThan(own)
      }
    },
  )

  it.each([
    [0.3, 6, 'either alone'],
    [0.3, 12, 'either alone'],
    [0.6, 6, 'either alone'],
    [0.6, 24, 'the pool'],
    [0.3, 96, 'the pool'],
  ])(
    'makes a quantized layer lose less on new tokens: difference %f, %i tokens, less than by %s',
    async (difference, count, than) => {
      const losses = { own: 0, pool: 0, mixed: 0 }
      for (let seed = 0; seed < 10; seed++) {
        const { own, pool } = experts(difference, seed)
        const tokens = drawTokens(own, count, 70 + seed)
        const hessians = { own: hessianOf(tokens), pool, mixed: shrunk(tokens, pool).hessian }
        const weight = gaussianMatrix(32, size, 300 + seed)
        for (const of of ['own', 'pool', 'mixed'] as const) {
          const layer = await quantizeGptq(weight, hessians[of], { bits: 2, groupSize: size, damping: 0.1 })
          losses[of] += reconstructionError(weight, dequantize(layer), own.exact).relative
        }
      }
      expect(losses.mixed).toBeLessThan(losses.pool)
      if (than === 'either alone') expect(losses.mixed).toBeLessThan(losses.own)
    },
  )
})

function mean(of: (seed: number) => number, seeds = 10): number {
  return Array.from({ length: seeds }, (_, seed) => of(seed)).reduce((sum, value) => sum + value, 0) / seeds
}

describe.each(['mixtral-full', 'qwen3_moe-norm'])('collectExpertStatistics on %s', (name) => {
  /** Calls `use` in front of each stage of the first mixture of experts. */
  async function forEachStage(
    use: (stage: Stage, block: Block, stream: ReturnType<typeof calibrationStream>) => Promise<void>,
  ): Promise<void> {
    const { config, source, hidden } = await openFixture(name)
    const index = config.blocks.findIndex(({ feedForward }) => feedForward.kind === 'routed')
    const stream = calibrationStream(config, hidden[index], 20)
    const block = await openBlock(source, config.blocks[index])
    try {
      for (const stage of blockStages(block.description)) {
        await use(stage, block, stream)
        await passStage(block, stage, stream)
      }
    } finally {
      disposeBlock(block)
    }
  }

  it('shrinks the Hessian of an expert’s own tokens towards that of all, as if they had been routed to it', async () => {
    let expertStages = 0
    await forEachStage(async (stage, block, stream) => {
      if (stage.expert === undefined) return
      expertStages++
      const [{ sequences, read }] = stream.batches
      const before = await read()
      const inputOf = async (tokens: Int32Array) => {
        const routes = before.routes!
        const routed = routes.tokens.map((own, i) => (i === stage.expert ? tokens : own))
        const state = { ...before, gated: undefined, routes: { ...routes, tokens: routed } }
        let seen: Matrix | undefined
        await withLinears(block, stage.uses, () =>
          visitStored(block, stage, { sequences, state }, 20, ({ rows, cols, data }) => {
            seen = matrix(rows, cols, data.slice(0, rows * cols))
          }),
        )
        return seen
      }
      const own = await inputOf(before.routes!.tokens[stage.expert])
      const all = await inputOf(Int32Array.from({ length: 40 }, (_, i) => i))
      const pool = hessianOf(all!)
      expect(all!.rows).toBe(40)
      const expected = own ? shrunk(own, pool) : { hessian: pool, pooled: 1 }
      const found = await collectExpertStatistics(stage, { block, stream })
      expect(found.tokens).toBe(own?.rows ?? 0)
      expect(found.pooled).toBeCloseTo(expected.pooled, 4)
      const largest = Math.max(...expected.hessian.data)
      expectClose(found.hessian.data, expected.hessian.data, 1e-4 * largest)
      expect(found.drift).toBeUndefined()
    })
    expect(expertStages).toBeGreaterThan(4)
  })

  it('gives an expert without tokens the Hessian of all', async () => {
    await forEachStage(async (stage, block, stream) => {
      if (stage.expert !== 1) return
      const [{ sequences, read }] = stream.batches
      const before = (await read()) as BlockState<Matrix>
      const { routes } = before
      const none = routes!.tokens.map((own, i) => (i === 1 ? new Int32Array() : own))
      const [state] = [{ ...before, gated: undefined, routes: { ...routes!, tokens: none } }]
      const found = await collectExpertStatistics(stage, {
        block,
        stream: { ...stream, batches: [batchInMemory(sequences, state)] },
      })
      expect(found).toMatchObject({ tokens: 0, pooled: 1 })
      expect(found.hessian.data.every(Number.isFinite)).toBe(true)
      expect(found.hessian.data[0]).toBeGreaterThan(0)
    })
  })

  it('names the layers when an activation is not finite', async () => {
    await forEachStage(async (stage, block, stream) => {
      if (stage.expert !== 0) return
      const [{ sequences, read }] = stream.batches
      const before = (await read()) as BlockState<Matrix>
      const { rows, cols, data } = before.expertInput!
      const damaged = matrix(
        rows,
        cols,
        data.map((value, i) => (i === 5 ? Number.NaN : value)),
      )
      const state = { ...before, gated: undefined, expertInput: damaged }
      const error = await rejectionOf(() =>
        collectExpertStatistics(stage, {
          block,
          stream: { ...stream, batches: [batchInMemory(sequences, state)] },
        }),
      )
      expect(error).toBeInstanceOf(NumericError)
      for (const { kind } of stage.linears) expect((error as Error).message).toContain(kind)
      expect((error as Error).message).toContain(block.description.prefix)
    })
  })
})
