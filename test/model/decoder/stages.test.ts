import { describe, expect, it } from 'vitest'
import { allLinearLayers, blockLinears, isExpert, linearLayers } from '../../../src/model/decoder/linears.js'
import { blockStages } from '../../../src/model/decoder/stages.js'
import { fixtureNames, openFixture } from '../families/fixture.js'

describe('linearLayers', () => {
  it('leaves a router and the gate of a shared expert out, which blockLinears has', async () => {
    const { config } = await openFixture('qwen2_moe-mlp-only')
    const routed = config.blocks.filter(({ feedForward }) => feedForward.kind === 'routed')
    expect(routed.length).toBeGreaterThan(0)
    for (const block of routed) {
      const quantized = linearLayers(config, block.index).map(({ kind }) => kind)
      const others = blockLinears(block).filter(({ kind }) => !quantized.includes(kind))
      expect(others.map(({ kind }) => kind)).toEqual(['mlp.gate', 'mlp.shared_expert_gate'])
      expect(
        blockLinears(block)
          .filter((linear) => isExpert(block, linear))
          .map(({ kind }) => kind),
      ).toEqual(quantized.filter((kind) => kind.includes('.experts.')))
    }
  })
})

describe('the stages of a block', () => {
  it.each(fixtureNames)('of %s have each layer that is quantized once', async (name) => {
    const { config } = await openFixture(name)
    const staged = config.blocks.flatMap((block) => blockStages(block).flatMap(({ linears }) => linears))
    const names = staged.map(({ module }) => `${module}.weight`)
    expect(names.sort()).toEqual(
      allLinearLayers(config)
        .map(({ name }) => name)
        .sort(),
    )
  })

  it.each(fixtureNames)('of %s use every layer, and all that they quantize', async (name) => {
    const { config } = await openFixture(name)
    for (const block of config.blocks) {
      const stages = blockStages(block)
      expect(new Set(stages.flatMap(({ uses }) => uses))).toEqual(new Set(blockLinears(block)))
      for (const { linears, uses, expert } of stages) {
        for (const linear of linears) {
          expect(uses).toContain(linear)
          expect(isExpert(block, linear)).toBe(expert !== undefined)
          // the layers of a stage share one Hessian
          expect(linear.cols).toBe(linears[0].cols)
        }
      }
    }
  })
})
