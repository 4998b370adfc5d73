import { beforeAll, describe, expect, it } from 'vitest'
import { NumericError } from '../../../src/common/errors.js'
import {
  type Block,
  disposeBlock,
  forkBlock,
  openBlock,
  reloadLinear,
} from '../../../src/model/decoder/block.js'
import { embedTokens } from '../../../src/model/decoder/embedding.js'
import { blockLinears } from '../../../src/model/decoder/linears.js'
import { runBlock } from '../../../src/model/decoder/run-block.js'
import { runBranches } from '../../../src/model/decoder/run-branches.js'
import type { WeightSource } from '../../../src/model/decoder/weights.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { type KernelArrays, watchKernelArrays } from '../../support/kernel-arrays.js'
import { fixtureNames, openFixture } from '../families/fixture.js'

const [sequences, length] = [2, 6]
let arrays: KernelArrays

beforeAll(async () => {
  await startEngine('wasm')
  arrays = watchKernelArrays()
})

/** The same weights, those of some layers multiplied. */
function multiplied(source: WeightSource, modules: readonly string[], factor: number): WeightSource {
  const names = new Set(modules.map((module) => `${module}.weight`))
  return {
    ...source,
    shape: (name) => source.shape(name),
    floats: async (name) => {
      const values = await source.floats(name)
      return names.has(name) ? values.map((value) => factor * value) : values
    },
    rows: (name, first, count) => source.rows(name, first, count),
  }
}

async function opened(name: string) {
  const { config, source } = await openFixture(name)
  const tokens = Int32Array.from({ length: sequences * length }, (_, i) => (i * i + 3) % config.vocabSize)
  const hidden = await embedTokens(source, config, tokens)
  const description = config.blocks[config.blocks.length - 1]
  return { source, hidden, description, block: await openBlock(source, description) }
}

describe('runBranches', () => {
  it.each(fixtureNames)('of %s gives what blocks with other layers give, bit for bit', async (name) => {
    const { source, hidden, description, block } = await opened(name)
    const linears = blockLinears(description)
    // each layer on its own, and the last two together
    const changes = [...linears.map((linear) => [linear]), linears.slice(-2)]
    const expected: Float32Array[] = []
    for (const changed of changes) {
      const modules = changed.map(({ module }) => module)
      const whole = await openBlock(multiplied(source, modules, 1.5), description)
      expected.push(await runBlock(whole, hidden, sequences, length))
      disposeBlock(whole)
    }
    const before = arrays.inUse()
    const found: Float32Array[] = []
    const branches = changes.map((changed, i) => {
      const kinds = changed.map(({ kind }) => kind)
      const modules = changed.map(({ module }) => module)
      const run = async (finish: (changed: Block) => Promise<Float32Array>) => {
        const branch = forkBlock(block, multiplied(source, modules, 1.5))
        for (const kind of kinds) await reloadLinear(branch, kind)
        found[i] = await finish(branch)
      }
      return { kinds, run }
    })
    const output = await runBranches(block, hidden, sequences, length, branches)
    expect(arrays.inUse()).toBe(before)
    expect(output).toEqual(await runBlock(block, hidden, sequences, length))
    expect(found).toEqual(expected)
    disposeBlock(block)
  })

  it('frees all it made where a branch overflows', async () => {
    const { source, hidden, description, block } = await opened(fixtureNames[0])
    const { kind, module } = description.attention.output
    const before = arrays.inUse()
    const run = async (finish: (changed: Block) => Promise<Float32Array>) => {
      const branch = forkBlock(block, multiplied(source, [module], 1e38))
      await reloadLinear(branch, kind)
      await finish(branch)
    }
    await expect(runBranches(block, hidden, sequences, length, [{ kinds: [kind], run }])).rejects.toThrow(
      NumericError,
    )
    expect(arrays.inUse()).toBe(before)
    disposeBlock(block)
  })
})
