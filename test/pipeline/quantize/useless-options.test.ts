import { describe, expect, it } from 'vitest'
import { OptionError } from '../../../src/index.js'
import { defaultBits, resolveMethod } from '../../../src/pipeline/quantize/quantize-options.js'

describe('resolveMethod', () => {
  it('states the options in force, defaults included', () => {
    expect(resolveMethod('gptvq', {}).stated).toMatchObject({ vectorDim: 2, bits: 2, bpv: 2.125, seed: 0 })
    expect(resolveMethod('gptvq', { scaleBlockSize: 32 })).toMatchObject({
      stated: { scaleBlockSize: 32, bpv: 2.1875 },
      options: { scaleBlockSize: 32 },
    })
    expect(resolveMethod('gptvq', { refinementTolerance: 0.1, scaleBlockSize: 'none' })).toMatchObject({
      stated: { refinementTolerance: 0.1, scaleBlockSize: 'none', bpv: 2.125 },
      options: { refinementTolerance: 0.1, scaleBlockSize: 'none' },
    })
    expect(resolveMethod('gptvq', { groupSize: 4096 }).stated).toMatchObject({ groupSize: 4096 })
    const grid = { granularity: 'group', grid: 'asymmetric', scaleSearch: 'minmax' }
    const published = { layerOrder: 'block', driftCorrection: 0, tokenWeights: 'equal' }
    const gptq = { bits: 2, groupSize: 128, damping: 0.01, ...grid, ...published }
    expect(resolveMethod('gptq', {}).stated).toEqual(gptq)
    expect(resolveMethod('rtn', { bits: 3 }).stated).toEqual({ bits: 3, groupSize: 128, ...grid })
    const searched = resolveMethod('rtn', { granularity: 'channel', scaleSearch: 'sequential-mse' })
    expect(searched.stated).toEqual({
      ...{ bits: 2, granularity: 'channel', grid: 'asymmetric' },
      ...{ scaleSearch: 'sequential-mse', scaleCandidates: 20 },
      ...{ layerOrder: 'sequential', driftCorrection: 0, tokenWeights: 'equal' },
    })
  })

  it('mixes bits where bpv alone is given, and not where all indices are the same', () => {
    const same = { bpv: 2.5, indexWidths: 'same' } as const
    expect(() => resolveMethod('gptvq', { ...same, bits: defaultBits('gptvq', same) })).toThrow(
      /^indexWidths: 'same' .*set bits to a number/,
    )
    expect(() => resolveMethod('gptvq', { ...same, bits: 2 })).not.toThrow()
  })

  it('quantizes single weights by a trellis of many bits, mixed or not', () => {
    const dimOf = (options: Parameters<typeof resolveMethod>[1]) =>
      resolveMethod('gptvq', options).stated.vectorDim
    expect(dimOf({ bits: 'mixed', bpv: 3.125 })).toBe(2)
    expect(dimOf({ bits: 'mixed', bpv: 4.125 })).toBe(1)
    expect(dimOf({ bits: 'mixed', bpv: 4.125, vectorDim: 2 })).toBe(2)
    expect(dimOf({ bits: 'mixed', bpv: 4.125, trellisBits: 0 })).toBe(2)
  })

  it('refuses an option that the method has no use for, rather than ignoring it', () => {
    for (const option of [
      'vectorDim',
      'bpv',
      'kmeansInit',
      'codebookBits',
      'scaleBlockSize',
      'columnOrder',
      'refinementRounds',
      'refinementTolerance',
    ] as const) {
      for (const method of ['gptq', 'rtn'] as const) {
        const error = (() => {
          try {
            resolveMethod(method, { [option]: 2 })
          } catch (e) {
            return e
          }
        })()
        expect(error).toBeInstanceOf(OptionError)
        expect((error as OptionError).option).toBe(option)
      }
    }
    const order = ['layerOrder', 'driftCorrection', 'tokenWeights']
    const calibrated = ['calibration', 'sequences', 'sequenceLength', 'seed', ...order]
    for (const option of [...calibrated, 'damping']) {
      expect(() => resolveMethod('rtn', { [option]: 1 })).toThrow(`${option}: is of no use to method 'rtn'`)
    }
    expect(() => resolveMethod('gptq', { seed: 1, sequences: 4 })).not.toThrow()
    for (const option of ['granularity', 'grid', 'scaleSearch', 'scaleCandidates']) {
      expect(() => resolveMethod('gptvq', { [option]: 'x' })).toThrow(
        `${option}: is of no use to method 'gptvq'`,
      )
    }
  })
})
