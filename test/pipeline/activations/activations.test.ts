import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import {
  closeCaches,
  decodeSteps,
  disposeDecoder,
  loadDecoder,
  openCaches,
} from '../../../src/model/passes/cached-decoder.js'
import { forwardLogits } from '../../../src/model/passes/forward-logits.js'
import { withScheme } from '../../../src/pipeline/activations/scheme.js'
import { evaluateModel } from '../../../src/pipeline/evaluate/evaluate-model.js'
import { openModel } from '../../../src/pipeline/folders/open-model.js'
import { type QuantizeModelOptions, quantizeModel } from '../../../src/pipeline/quantize/quantize-model.js'
import { writeTinyModel } from '../../support/tiny-model.js'

let folder: string
let model: string
const tokens = Int32Array.from({ length: 128 }, (_, i) => (i * i * 7 + 3 * i) % 250)
const sequences = [0, 32, 64, 96].map((start) => tokens.slice(start, start + 32))

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-activations-'))
  model = (await writeTinyModel(join(folder, 'model'))).folder
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function quantized(options: Partial<QuantizeModelOptions>): Promise<string> {
  const output = join(folder, 'quantized')
  await quantizeModel({ model, output, force: true, method: 'rtn', bits: 8, ...options })
  return output
}

const klOf = async (path: string) =>
  (await evaluateModel({ model: path, reference: model, text: { tokens }, context: 32 })).klDivergence!

describe('rounded activations', () => {
  it('cost the more the fewer bits they have, and 16 bits next to nothing', async () => {
    const none = await klOf(await quantized({}))
    const found: number[] = []
    for (const activationBits of [16, 8, 6, 4]) found.push(await klOf(await quantized({ activationBits })))
    expect(Math.abs(found[0] - none)).toBeLessThan(0.02 * none + 1e-7)
    expect(found).toEqual([...found].sort((a, b) => a - b))
    expect(await klOf(await quantized({ cacheBits: 4 }))).toBeGreaterThan(none)
  })

  it('have static ranges of what the quantized model has on the calibration text', async () => {
    const path = await quantized({
      activationBits: 8,
      cacheBits: 8,
      activationRange: 'minmax',
      calibration: { sequences },
    })
    const { quantization, source, config, close } = await openModel(path)
    const { inputs, cache, ranges } = quantization!.activations!
    expect([inputs, cache]).toEqual([
      { bits: 8, symmetric: false },
      { bits: 8, symmetric: false },
    ])
    expect(Object.keys(ranges!)).toHaveLength(14 + 4)
    const seen: Record<string, [number, number]> = {}
    const onActivations = ({ name }: { name: string }, values: Float32Array) => {
      const [low, high] = seen[name] ?? [0, 0]
      seen[name] = [
        values.reduce((a, b) => Math.min(a, b), low),
        values.reduce((a, b) => Math.max(a, b), high),
      ]
      return undefined
    }
    await forwardLogits({ ...source, onActivations }, config, tokens, sequences.length)
    for (const [name, [low, high]] of Object.entries(ranges!)) {
      expect(low).toBeCloseTo(seen[name][0], 4)
      expect(high).toBeCloseTo(seen[name][1], 4)
    }
    await close()
    expect(await klOf(path)).toBeGreaterThan(0)
  })

  it('leave layers alone that are not quantized', async () => {
    const skip = '*.{q,k,v,o,gate,up}_proj'
    const some = await klOf(await quantized({ skip, activationBits: 4 }))
    expect(some).toBeGreaterThan(await klOf(await quantized({ skip })))
    expect(some).toBeLessThan(await klOf(await quantized({ activationBits: 4 })))
  })

  it('are rounded when the model writes too, token by token', async () => {
    const path = await quantized({ activationBits: 4, cacheBits: 4 })
    const { source, config, close } = await openModel(path)
    const text = tokens.slice(0, 24)
    const decoder = await loadDecoder(source, config, { keepsPacked: true })
    const caches = openCaches(decoder, 1, text.length)
    const last = (logits: Float32Array) => logits.slice(-config.vocabSize)
    const prompt = { caches, tokens: text.subarray(0, 23), span: text.length, predicts: false }
    await decodeSteps(decoder, [prompt])
    const found = await decodeSteps(decoder, [{ ...prompt, tokens: text.subarray(23), predicts: true }])
    closeCaches(caches)
    disposeDecoder(decoder)
    const rounded = last(await forwardLogits(source, config, text, 1))
    const plain = last(await forwardLogits({ ...source, onActivations: undefined }, config, text, 1))
    expect(distance(found, rounded)).toBeLessThan(0.2 * distance(found, plain))
    await close()
  })

  it.each(['percentile', 'sqnr'] as const)(
    'find ranges by %s within those of minmax',
    async (activationRange) => {
      const options = { activationBits: 4, calibration: { sequences } }
      const wide = (await openRanges(await quantized({ ...options, activationRange: 'minmax' })))!
      const given = activationRange === 'percentile' ? { activationPercentile: 95 } : {}
      const narrow = (await openRanges(await quantized({ ...options, activationRange, ...given })))!
      let narrower = 0
      for (const [name, [low, high]] of Object.entries(narrow)) {
        const span = wide[name][1] - wide[name][0]
        expect(high - low).toBeLessThanOrEqual(span * 1.07)
        if (high - low < 0.97 * span) narrower++
      }
      expect(narrower).toBeGreaterThan(7)
    },
  )

  it('are refused where they would be ignored, or cannot be', async () => {
    const cases: [Partial<QuantizeModelOptions>, RegExp][] = [
      [{ activationBits: 3 }, /^activationBits: expected a whole number from 4 to 16/],
      [{ activationRange: 'minmax' }, /^activationRange: is of no use where activations stay/],
      [
        { activationBits: 8, activationPercentile: 99 },
        /^activationPercentile: is of no use to activationRange 'token'/,
      ],
      [{ activationBits: 8, calibration: { sequences } }, /^calibration: is of no use to method 'rtn'/],
      [{ scheme: 'w4a8' }, /^bits: scheme 'w4a8' says otherwise, found 8/],
    ]
    for (const [options, message] of cases) await expect(quantized(options)).rejects.toThrow(message)
  })

  it('are checked in a folder that was changed', async () => {
    const path = await quantized({ activationBits: 8, activationRange: 'minmax', calibration: { sequences } })
    const file = join(path, 'config.json')
    const text = await readFile(file, 'utf8')
    const config = JSON.parse(text)
    const { activations } = config.quantization_config
    for (const [changed, message] of [
      [
        { ...activations, inputs: { bits: 3, symmetric: false } },
        /activations.inputs.bits is 3, expected a whole number from 4 to 16/,
      ],
      [{ ranges: {} }, /expected inputs or cache in it/],
      [{ ...activations, ranges: { x: [1, 2] } }, /activations.ranges of x is \[1,2\]/],
    ] as const) {
      config.quantization_config.activations = changed
      await writeFile(file, JSON.stringify(config))
      await expect(openModel(path)).rejects.toThrow(message)
    }
    config.quantization_config.activations = { ...activations, ranges: {} }
    await writeFile(file, JSON.stringify(config))
    await expect(klOf(path)).rejects.toThrow(/activations.ranges has none for model.layers.0/)
  })
})

describe('a scheme', () => {
  it('stands for bits of both, on symmetric grids of channels', async () => {
    const scalar = { method: 'rtn', granularity: 'channel', grid: 'symmetric', scaleSearch: 'mse' }
    expect(withScheme({ scheme: 'w8a8' })).toEqual({ ...scalar, bits: 8, activationBits: 8 })
    expect(withScheme({ scheme: 'w4a16', grid: 'asymmetric' })).toEqual({
      ...scalar,
      grid: 'asymmetric',
      bits: 4,
    })
    expect(withScheme({ scheme: 'w4a8', groupSize: 32, method: 'gptq' })).toEqual({
      ...{ method: 'gptq', grid: 'symmetric', scaleSearch: 'mse' },
      ...{ bits: 4, activationBits: 8, groupSize: 32 },
    })
    const { settings, activations } = await quantizeModel({ model, scheme: 'w4a8' })
    expect(settings).toMatchObject({
      granularity: 'channel',
      grid: 'symmetric',
      bits: 4,
      activationBits: 8,
      activationRange: 'token',
    })
    expect(activations).toEqual({ inputs: { bits: 8, symmetric: false } })
  })
})

const distance = (a: Float32Array, b: Float32Array) => Math.hypot(...a.map((value, i) => value - b[i]))

async function openRanges(path: string) {
  const { quantization, close } = await openModel(path)
  await close()
  return quantization!.activations!.ranges
}
