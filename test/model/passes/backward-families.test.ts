import { beforeAll, describe, expect, it } from 'vitest'
import type { Matrix } from '../../../src/common/matrix.js'
import { randomGenerator, randomNormal } from '../../../src/common/random.js'
import { useKernels } from '../../../src/kernels/kernels.js'
import { disposeBlock, openBlock } from '../../../src/model/decoder/block.js'
import type { BlockDescription } from '../../../src/model/decoder/description.js'
import { blockLinears, isExpert } from '../../../src/model/decoder/linears.js'
import { runBlock } from '../../../src/model/decoder/run-block.js'
import type { WeightSource } from '../../../src/model/decoder/weights.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { backwardBlock } from '../../../src/model/passes/backward.js'
import { type Fixture, fixtureOfEachFamily, openFixture } from '../families/fixture.js'

/** One fixture of each family; not one whose values are limited, which gives their slopes a jump. */
const names = fixtureOfEachFamily.map((name) => name.replace('olmoe-clip-norm', 'olmoe-plain'))

/** By how much of their size values are moved. */
const STEP = 2 ** -12

beforeAll(async () => {
  await startEngine('wasm')
  // these compute in float64 between input and output, so that little but rounding to float32 stands in the way
  useKernels('reference')
})

/** A random direction of length 1. */
function direction(count: number, seed: number): Float32Array {
  const random = randomGenerator(seed)
  const values = Float32Array.from({ length: count }, () => randomNormal(random))
  const length = size(values)
  return values.map((value) => value / length)
}

const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * b[i], 0)
const size = (a: Float32Array) => Math.sqrt(dot(a, a))
const moved = (values: Float32Array, along: Float32Array, by: number) =>
  values.map((value, i) => value + by * along[i])

/**
 * The slope of a loss along a random direction, by central differences of fourth order, and that direction: the first
 * along which no token goes to another expert, where the loss jumps.
 */
async function slope(values: Float32Array, at: (moved: Float32Array) => Promise<Outcome>) {
  const step = STEP * size(values)
  for (let seed = 1; seed < 20; seed++) {
    const along = direction(values.length, seed)
    const points: Outcome[] = []
    for (const steps of [-2, -1, 1, 2]) points.push(await at(moved(values, along, steps * step)))
    if (points.some(({ routes }) => routes !== points[0].routes)) continue
    const [twiceBack, back, on, twiceOn] = points.map(({ loss }) => loss)
    return { along, expected: (8 * (on - back) - (twiceOn - twiceBack)) / (12 * step) }
  }
  throw new Error('along every direction some token goes to another expert')
}

/** The same weights, but for one tensor. */
function changed(source: WeightSource, name: string, values: Float32Array): WeightSource {
  return { ...source, floats: async (asked) => (asked === name ? values : source.floats(asked)) }
}

/** A loss, and how many tokens each expert got. */
interface Outcome {
  readonly loss: number
  readonly routes: string
}

async function forward(
  source: WeightSource,
  block: BlockDescription,
  hidden: Float32Array,
  up: Float32Array,
): Promise<Outcome> {
  const opened = await openBlock(source, block)
  const counts: string[] = []
  try {
    const output = await runBlock(opened, hidden, 2, 20, {
      onInput: ({ expert }, { rows }) => counts.push(`${expert} ${rows}`),
    })
    return { loss: dot(output, up), routes: counts.join() }
  } finally {
    disposeBlock(opened)
  }
}

/** The gradients of `sum(up * output)` of a block: on its input, and on its weights as far as it lists them. */
async function gradients(
  { source }: Fixture,
  description: BlockDescription,
  hidden: Float32Array,
  up: Float32Array,
) {
  const block = await openBlock(source, description)
  const weights = new Map<string, Float32Array>()
  const routed = new Map<string, Int32Array | undefined>()
  const onHidden = await backwardBlock(block, hidden, up, 2, 20, (kind, input, outputGradient, tokens) => {
    expect(weights.has(kind)).toBe(false)
    expect(input.rows).toBe(tokens?.length ?? 40)
    weights.set(kind, weightGradient(input, outputGradient))
    routed.set(kind, tokens)
  })
  disposeBlock(block)
  return { onHidden, weights, routed }
}

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

describe.each(names)('the backward pass of a block of %s', (name) => {
  it('gives the slopes of its forward pass, on its input and on the weights of every layer', async () => {
    const fixture = await openFixture(name)
    for (const [index, description] of fixture.config.blocks.entries()) {
      // shaken: in one fixture a token stands at the border between two experts
      const hidden = moved(
        fixture.hidden[index],
        direction(fixture.hidden[index].length, 7),
        size(fixture.hidden[index]) / 10,
      )
      const up = direction(hidden.length, 1)
      const { onHidden, weights, routed } = await gradients(fixture, description, hidden, up)
      const expectSlope = async (
        gradient: Float32Array,
        values: Float32Array,
        at: (moved: Float32Array) => Promise<Outcome>,
        what: string,
      ) => {
        const { along, expected } = await slope(values, at)
        expect(Math.abs(dot(gradient, along) - expected), what).toBeLessThan(5e-4 * size(gradient))
      }
      const onStates = (states: Float32Array) => forward(fixture.source, description, states, up)
      await expectSlope(onHidden, hidden, onStates, `the input of block ${index}`)
      for (const linear of blockLinears(description)) {
        const gradient = weights.get(linear.kind)
        if (gradient === undefined) {
          // no token went there
          expect(isExpert(description, linear)).toBe(true)
          continue
        }
        const tensor = `${linear.module}.weight`
        const values = await fixture.source.floats(tensor)
        const onWeights = (weight: Float32Array) =>
          forward(changed(fixture.source, tensor, weight), description, hidden, up)
        await expectSlope(gradient, values, onWeights, tensor)
        expect(routed.get(linear.kind) !== undefined).toBe(isExpert(description, linear))
      }
    }
  })
})
