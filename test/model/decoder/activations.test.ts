import { beforeAll, describe, expect, it } from 'vitest'
import { allLinearLayers } from '../../../src/model/decoder/linears.js'
import type { WeightSource } from '../../../src/model/decoder/weights.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { forwardLogits } from '../../../src/model/passes/forward-logits.js'
import { fixtureNames, openFixture, rangeOf, worstDifference } from '../families/fixture.js'

beforeAll(() => startEngine('wasm'))

describe.each(fixtureNames)('what is shown of %s', (name) => {
  it('is the input of each layer, as transformers has it, and the keys and values of each block', async () => {
    const { source, config, tokens, sequences, inputs } = await openFixture(name)
    const shown = new Map<string, Float32Array>()
    const onActivations: WeightSource['onActivations'] = ({ name: place, width }, values) => {
      expect(values.length % width).toBe(0)
      shown.set(place, values.slice())
      return undefined
    }
    await forwardLogits({ ...source, onActivations }, config, tokens, sequences)
    const cached = config.blocks.flatMap(({ prefix }) => [`${prefix}keys`, `${prefix}values`])
    const layers = allLinearLayers(config).map((linear) => linear.name.replace(/\.weight$/, ''))
    const expected = new Set([...layers, ...cached])
    expect([...shown.keys()].filter((place) => !expected.has(place))).toEqual([])
    // an expert that gets no token reads nothing
    const missing = [...expected].filter((place) => !shown.has(place))
    expect(missing.filter((place) => !place.includes('experts'))).toEqual([])
    for (const [place, { values }] of inputs) {
      if (!shown.has(place)) continue
      expect(worstDifference(shown.get(place)!, values)).toBeLessThan(1e-4 * rangeOf(values))
    }
  })
})

describe('what a listener returns', () => {
  it('is what the layer reads: doubling the input is doubling the weight', async () => {
    const { source, config, tokens, sequences } = await openFixture('llama-mha')
    for (const [place, part] of [
      ['model.layers.1.mlp.down_proj', 'model.layers.1.mlp.down_proj'],
      ['model.layers.0.values', 'model.layers.0.self_attn.v_proj'],
      ['model.layers.0.keys', 'model.layers.0.self_attn.k_proj'],
    ]) {
      const doubled: WeightSource = {
        ...source,
        floats: async (name) => {
          const values = await source.floats(name)
          return name === `${part}.weight` ? values.map((value) => 2 * value) : values
        },
      }
      const listening: WeightSource = {
        ...source,
        onActivations: (at, values) => (at.name === place ? values.map((value) => 2 * value) : undefined),
      }
      const expected = await forwardLogits(doubled, config, tokens, sequences)
      const found = await forwardLogits(listening, config, tokens, sequences)
      expect(worstDifference(found, expected)).toBeLessThan(1e-5 * rangeOf(expected))
      expect(worstDifference(found, await forwardLogits(source, config, tokens, sequences))).toBeGreaterThan(
        1e-3,
      )
    }
  })
})
