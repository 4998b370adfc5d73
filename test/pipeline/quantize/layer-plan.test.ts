import { describe, expect, it } from 'vitest'
import { OptionError } from '../../../src/common/errors.js'
import { allLinearLayers } from '../../../src/model/decoder/linears.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import {
  type LayerPlanOptions,
  type LayerSetting,
  planLayers,
} from '../../../src/pipeline/quantize/layers/layer-plan.js'
import {
  type ModelMethodOptions,
  type QuantizationMethod,
  resolveMethod,
} from '../../../src/pipeline/quantize/quantize-options.js'
import { tinyConfig } from '../../support/tiny-model.js'
import { thrownBy } from '../../support/tolerance.js'

const config = describeDecoder(tinyConfig, 'config.json')
const names = allLinearLayers(config).map(({ name }) => name)
const down = names.filter((name) => name.includes('down_proj'))
const first = names.filter((name) => name.startsWith('model.layers.0.'))

function plan(options: ModelMethodOptions & LayerPlanOptions, method: QuantizationMethod = 'gptvq') {
  const { skip: _, set: __, ...shared } = options
  const settings = resolveMethod(method, shared)
  return { settings, ...planLayers(config, settings, options) }
}

const planned = (options: LayerPlanOptions) => plan(options).linears.map(({ name }) => name)
const refusal = (options: ModelMethodOptions & LayerPlanOptions, method?: QuantizationMethod) => {
  const error = thrownBy(() => plan(options, method))
  expect(error).toBeInstanceOf(OptionError)
  return error as OptionError
}

describe('skip', () => {
  it('left out or empty leaves every layer, in the order of the forward pass, with the settings of all', () => {
    for (const options of [{}, { skip: [] }, { set: [] }]) {
      const { linears, settings, settingsOf } = plan(options)
      expect(linears.map(({ name }) => name)).toEqual(names)
      for (const name of names) expect(settingsOf(name)).toBe(settings)
    }
  })

  it('leaves out what any of its patterns matches, and nothing else', () => {
    expect(planned({ skip: '*.down_proj' })).toEqual(names.filter((name) => !down.includes(name)))
    expect(planned({ skip: ['model.layers.0.*', '*.down_proj'] })).toEqual(
      names.filter((name) => !first.includes(name) && !down.includes(name)),
    )
    expect(planned({ skip: '*.{q,k,v,o}_proj' })).toEqual(names.filter((name) => name.includes('.mlp.')))
    expect(planned({ skip: 'model.layers.1.mlp.u?_proj' })).toEqual(
      names.filter((name) => name !== 'model.layers.1.mlp.up_proj.weight'),
    )
  })

  it('leaves a skipped layer and one that does not exist without settings', () => {
    const { settingsOf } = plan({ skip: '*.down_proj' })
    expect(settingsOf(down[0])).toBeUndefined()
    expect(settingsOf('model.layers.9.mlp.down_proj.weight')).toBeUndefined()
  })

  it('means names without .weight, as reports give them', () => {
    expect(refusal({ skip: '*.down_proj.weight' }).message).toContain("'*.down_proj.weight' matches no layer")
  })

  it.each(['*.down', 'layers.0.*', 'model.layers.2.*', 'lm_head'])(
    'refuses the pattern %s, which matches nothing, naming it and what there is',
    (pattern) => {
      const { option, message } = refusal({ skip: ['*.q_proj', pattern] })
      expect(option).toBe('skip')
      expect(message).toContain(`'${pattern}'`)
      expect(message).toContain('model.layers.0.self_attn.q_proj to model.layers.1.mlp.down_proj')
    },
  )

  it.each(['', 3, null])('refuses %j, which is no pattern', (pattern) => {
    expect(refusal({ skip: [pattern as string] }).message).toMatch(/^skip: expected a pattern/)
  })

  it('refuses to leave nothing', () => {
    expect(refusal({ skip: '*' }).message).toMatch(/^skip: leaves no layer to quantize/)
    expect(refusal({ skip: ['*_proj', 'model*'] }).message).toMatch(/^skip: leaves no layer/)
  })
})

describe('set', () => {
  const settingsOf = (
    name: string,
    options: ModelMethodOptions & LayerPlanOptions,
    method?: QuantizationMethod,
  ) => plan(options, method).settingsOf(name)

  it('changes the layers that match, and no other', () => {
    const options = { damping: 0.05, set: [{ match: '*.down_proj', options: { damping: 0.2, restarts: 2 } }] }
    for (const name of names) {
      const own = down.includes(name) ? { damping: 0.2, restarts: 2 } : { damping: 0.05 }
      expect(settingsOf(name, options)).toEqual(resolveMethod('gptvq', own))
    }
  })

  it('takes each option from the last that matches and has it', () => {
    const set = [
      { match: '*', options: { damping: 0.3, restarts: 2 } },
      { match: 'model.layers.0.*', options: { damping: 0.4, kmeansIterations: 7 } },
      { match: '*.down_proj', options: { restarts: 5 } },
    ]
    const expected: [string, ModelMethodOptions][] = [
      ['model.layers.0.mlp.down_proj.weight', { damping: 0.4, restarts: 5, kmeansIterations: 7 }],
      ['model.layers.0.mlp.up_proj.weight', { damping: 0.4, restarts: 2, kmeansIterations: 7 }],
      ['model.layers.1.mlp.down_proj.weight', { damping: 0.3, restarts: 5 }],
      ['model.layers.1.mlp.up_proj.weight', { damping: 0.3, restarts: 2 }],
    ]
    for (const [name, own] of expected) {
      expect(settingsOf(name, { set })).toEqual(resolveMethod('gptvq', own))
    }
  })

  it.each<[ModelMethodOptions, ModelMethodOptions, ModelMethodOptions]>([
    // other bits or dimensions: their own default of bits per value
    [{ bits: 2, bpv: 2.5 }, { bits: 3 }, { bits: 3 }],
    [{ bits: 2, groupSize: 2048 }, { bits: 3 }, { bits: 3 }],
    [{ bits: 2, bpv: 2.5 }, { vectorDim: 1 }, { bits: 2, vectorDim: 1 }],
    // sizes of their own
    [
      { bits: 2, bpv: 2.5 },
      { bits: 3, bpv: 4 },
      { bits: 3, bpv: 4 },
    ],
    [{ bits: 2, bpv: 2.5 }, { groupSize: 512 }, { bits: 2, groupSize: 512 }],
    [{ bits: 2, groupSize: 2048 }, { bpv: 3 }, { bits: 2, bpv: 3 }],
    // anything else: the sizes of all layers
    [{ bits: 2, bpv: 2.5 }, { damping: 0.3 }, { bits: 2, bpv: 2.5, damping: 0.3 }],
    [{ bits: 2, groupSize: 2048 }, { damping: 0.3 }, { bits: 2, groupSize: 2048, damping: 0.3 }],
    [{ vectorDim: 1, seed: 5 }, { bits: 4 }, { vectorDim: 1, bits: 4, seed: 5 }],
  ])('of %j with %j makes %j', (base, own, expected) => {
    const set = [{ match: '*.v_proj', options: own as { bits?: number } }]
    const name = 'model.layers.1.self_attn.v_proj.weight'
    expect(settingsOf(name, { ...base, set })).toEqual(resolveMethod('gptvq', expected))
  })

  it('works with the scalar methods, whose groups do not depend on the bits', () => {
    const set = [{ match: '*.v_proj', options: { bits: 4 } }]
    const name = 'model.layers.1.self_attn.v_proj.weight'
    for (const method of ['gptq', 'rtn'] as const) {
      const expected = resolveMethod(method, { bits: 4, groupSize: 32 })
      expect(settingsOf(name, { bits: 3, groupSize: 32, set }, method)).toEqual(expected)
    }
  })

  it('refuses a pattern that matches nothing, and one that matches skipped layers only is no error', () => {
    const options = { damping: 0.3 }
    const { option, message } = refusal({ set: [{ match: '*.w_proj', options }] })
    expect(option).toBe('set')
    expect(message).toContain("'*.w_proj' matches no layer")
    expect(() => plan({ skip: '*.v_proj', set: [{ match: '*.v_proj', options }] })).not.toThrow()
  })

  it.each<[string, object, QuantizationMethod, RegExp]>([
    ['a value that an option cannot have', { bits: 0 }, 'gptvq', /^bits: /],
    ['sizes stated twice', { bpv: 3, groupSize: 256 }, 'gptvq', /bpv|groupSize/],
    ['a misspelt option', { bit: 3 }, 'gptvq', /^bit: there is no such option\. Did you mean bits\?/],
    ['an option of the whole model', { sequences: 3 }, 'gptvq', /^sequences: there is no such option/],
    ['a seed, which all layers share', { seed: 3 }, 'gptvq', /^seed: /],
    ['bits that are shared out', { bits: 'mixed' }, 'gptvq', /^bits: /],
    ['an option of another method', { vectorDim: 2 }, 'gptq', /^vectorDim: is of no use to method 'gptq'/],
  ])('refuses %s', (_, options, method, message) => {
    expect(refusal({ set: [{ match: '*.v_proj', options }] }, method).message).toMatch(message)
  })

  it.each<[string, object, RegExp]>([
    ['left out', { match: '*.v_proj' }, /^set: expected options for '\*\.v_proj'.* got undefined/],
    [
      'misnamed',
      { match: '*.v_proj', option: { bits: 3 } },
      /^option: there is no such option\. Did you mean options/,
    ],
    ['without a pattern', { options: { bits: 3 } }, /^set: expected a pattern/],
  ])('refuses options %s', (_, setting, message) => {
    expect(refusal({ set: [setting as LayerSetting] }).message).toMatch(message)
  })

  it('is refused where bits are shared out; skip is not', () => {
    const set = [{ match: '*.v_proj', options: { damping: 0.3 } }]
    expect(refusal({ bits: 'mixed', set }).message).toMatch(/^set: bits 'mixed' chooses/)
    expect(
      planLayers(config, resolveMethod('gptvq', { bits: 'mixed' }), { bits: 'mixed', skip: '*.v_proj' })
        .linears,
    ).toHaveLength(names.length - 2)
  })
})
