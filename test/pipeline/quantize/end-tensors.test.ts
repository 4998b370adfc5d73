import { describe, expect, it } from 'vitest'
import { AbortedError, OptionError } from '../../../src/common/errors.js'
import { matrix } from '../../../src/common/matrix.js'
import { randomGenerator, randomNormal } from '../../../src/common/random.js'
import { quantizeLayer } from '../../../src/gptvq/quantize-layer.js'
import { reconstructionError } from '../../../src/gptvq/reconstruction-error.js'
import { HessianAccumulator } from '../../../src/hessian/hessian.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { packedBytes } from '../../../src/packing/bits-per-value.js'
import { dequantize, pack, type QuantizedLayer } from '../../../src/packing/quantized-layer.js'
import { type EndTensorOptions, endTensors } from '../../../src/pipeline/quantize/end-tensors.js'
import type { LayerReport } from '../../../src/pipeline/quantize/layers/layer-report.js'
import { quantizeEndTensors } from '../../../src/pipeline/quantize/quantize-ends.js'
import { randomTensors, smallConfig } from '../../model/reference-forward.js'
import { sourceOf } from '../../model/tiny-llama.js'
import { rejectionOf, thrownBy } from '../../support/tolerance.js'

const json = { ...smallConfig, hidden_size: 130, vocab_size: 21, num_hidden_layers: 1 }
const untied = describeDecoder({ ...json }, 'config.json')
const tied = describeDecoder({ ...json, tie_word_embeddings: true }, 'config.json')
const size = { rows: 21, cols: 130 }
const embedding = 'model.embed_tokens.weight'
const head = 'lm_head.weight'

describe('endTensors', () => {
  const rounded = { ...size, method: 'rtn' }
  it.each<[string, typeof untied, EndTensorOptions, object[]]>([
    ['nothing', untied, {}, []],
    [
      'the embedding alone',
      untied,
      { embeddingBits: 8 },
      [{ name: embedding, ...rounded, bits: 8, use: 'embedding' }],
    ],
    ['the head alone', untied, { headBits: 4 }, [{ name: head, ...rounded, bits: 4, use: 'head' }]],
    [
      'both, each with its bits and method',
      untied,
      { embeddingBits: 4, headBits: 3, headMethod: 'gptvq' },
      [
        { name: embedding, ...rounded, bits: 4, use: 'embedding' },
        { name: head, ...size, method: 'gptvq', bits: 3, use: 'head' },
      ],
    ],
    [
      'one tensor where they are tied',
      tied,
      { embeddingBits: 2, embeddingMethod: 'gptvq' },
      [{ name: embedding, ...size, method: 'gptvq', bits: 2, use: 'both' }],
    ],
    [
      'one tensor where they are tied, asked for twice alike',
      tied,
      { embeddingBits: 4, headBits: 4, headMethod: 'rtn' },
      [{ name: embedding, ...rounded, bits: 4, use: 'both' }],
    ],
  ])('asked for %s', (_, config, options, expected) => {
    expect(endTensors(config, options)).toEqual(expected)
  })

  it.each<EndTensorOptions>([{ headBits: 8 }, { embeddingBits: 4, headBits: 8 }])(
    'refuses %j of a tied model, saying what to set',
    (options) => {
      const error = thrownBy(() => endTensors(tied, options)) as OptionError
      expect(error).toBeInstanceOf(OptionError)
      expect(error.message).toMatch(/^headBits: .*tie_word_embeddings.*set embeddingBits to 8 instead/)
    },
  )

  it('refuses another method of a tied head, bits of another method, and a method without bits', () => {
    const told = (config: typeof untied, options: EndTensorOptions) =>
      (thrownBy(() => endTensors(config, options)) as OptionError).message
    expect(told(tied, { embeddingBits: 4, headBits: 4, headMethod: 'gptvq' })).toMatch(
      /^headMethod: .*tie_word_embeddings.*set embeddingMethod to gptvq instead/,
    )
    expect(told(untied, { headBits: 8, headMethod: 'gptvq' })).toMatch(
      /^headBits: expected one of 2, 3, 4, got 8/,
    )
    expect(told(untied, { embeddingMethod: 'gptvq' })).toMatch(
      /^embeddingMethod: .*set embeddingBits to one of 2, 3, 4/,
    )
    expect(told(untied, { headBits: 4, headMethod: 'gptq' as 'rtn' })).toMatch(
      /^headMethod: expected one of rtn, gptvq/,
    )
  })

  it.each([0, 2, 16, 4.5, Number.NaN, '4'])('refuses %j bits', (bits) => {
    for (const option of ['embeddingBits', 'headBits'] as const) {
      const error = thrownBy(() => endTensors(untied, { [option]: bits })) as OptionError
      expect(error).toBeInstanceOf(OptionError)
      expect(error.message).toMatch(new RegExp(`^${option}: expected one of 4, 8`))
    }
  })
})

describe('quantizeEndTensors', () => {
  const tensors = randomTensors(json, 3)
  // of fewer tokens than there are inputs
  const hidden = matrix(50, size.cols)
  const random = randomGenerator(9)
  for (let i = 0; i < hidden.data.length; i++) hidden.data[i] = randomNormal(random) * (1 + (i % 7))
  const inputs = new HessianAccumulator(size.cols)
  inputs.add(hidden)
  const weightOf = (name: string) => matrix(size.rows, size.cols, tensors.get(name)!.values)
  const headStatistics = { hessian: inputs.hessian(), tokens: 50 }
  const done = async (config: typeof untied, options: EndTensorOptions, signal?: AbortSignal) => {
    const done: { name: string; layer: QuantizedLayer; report: LayerReport }[] = []
    let asked = 0
    const headInputs = async () => {
      asked++
      return headStatistics
    }
    const task = { weights: sourceOf(tensors), seed: 5, headInputs, signal, onProgress: () => {} }
    await quantizeEndTensors(
      { ...task, tensors: endTensors(config, options) },
      async (name, layer, report) => {
        done.push({ name, layer, report })
      },
    )
    return { done, asked }
  }
  const rounded = async (options: EndTensorOptions, signal?: AbortSignal) =>
    (await done(untied, options, signal)).done

  it.each([4, 8] as const)(
    'rounds to %i bits: no value further than half a step of its run of 64',
    async (bits) => {
      const done = await rounded({ embeddingBits: bits, headBits: bits })
      expect(done.map(({ name }) => name)).toEqual([embedding, head])
      for (const { name, layer } of done) {
        const { values } = tensors.get(name)!
        const { data } = dequantize(layer)
        for (let row = 0; row < size.rows; row++) {
          for (let start = 0; start < size.cols; start += 64) {
            const [from, to] = [row * size.cols + start, row * size.cols + Math.min(start + 64, size.cols)]
            const run = values.subarray(from, to)
            // a grid of zero and both ends
            const range = Math.max(0, ...run) - Math.min(0, ...run)
            const step = range / (2 ** bits - 1)
            for (let i = from; i < to; i++) {
              // scales are stored in half precision
              expect(Math.abs(data[i] - values[i])).toBeLessThan(step / 2 + range / 1000)
            }
          }
        }
      }
    },
  )

  it('reports the bytes that are stored, and neither an error nor tokens', async () => {
    const [{ layer, report }] = await rounded({ embeddingBits: 4 })
    expect(report).toMatchObject({
      name: 'model.embed_tokens',
      ...size,
      bytes: packedBytes(pack(layer)),
      relativeError: null,
      tokens: null,
      pooled: null,
    })
    expect(report.bitsPerValue.total).toBeCloseTo((8 * report.bytes) / (size.rows * size.cols), 12)
  })

  it('by GPTVQ gives what quantizeLayer does: of a head with what it sees, of an embedding with the identity', async () => {
    const both = { embeddingBits: 2, embeddingMethod: 'gptvq', headBits: 3, headMethod: 'gptvq' } as const
    const { done: ends, asked } = await done(untied, both)
    expect(asked).toBe(1)
    const identity = matrix(size.cols, size.cols)
    for (let i = 0; i < size.cols; i++) identity.data[i * (size.cols + 1)] = 2
    const expected = [
      await quantizeLayer(weightOf(embedding), identity, { bits: 2, seed: 5 }),
      await quantizeLayer(weightOf(head), headStatistics.hessian, { bits: 3, seed: 5, tokens: 50 }),
    ]
    expect(ends.map(({ layer }) => pack(layer))).toEqual(expected.map(pack))
    expect(ends.map(({ report }) => report.tokens)).toEqual([null, 50])
    const [own] = ends
    const error = reconstructionError(weightOf(embedding), dequantize(own.layer), identity).relative
    expect(own.report.relativeError).toBeCloseTo(error, 12)
    expect((await done(untied, { embeddingBits: 2, embeddingMethod: 'gptvq' })).asked).toBe(0)
  })

  it('quantizes a tied one with half the identity and half what the head sees, both of one trace', async () => {
    const { done: ends } = await done(tied, { embeddingBits: 2, embeddingMethod: 'gptvq' })
    const { hessian } = headStatistics
    let trace = 0
    for (let i = 0; i < size.cols; i++) trace += hessian.data[i * (size.cols + 1)]
    const half = matrix(size.cols, size.cols)
    for (const i of half.data.keys()) {
      half.data[i] = (hessian.data[i] * size.cols) / trace + (i % (size.cols + 1) === 0 ? 1 : 0)
    }
    const expected = await quantizeLayer(weightOf(embedding), half, { bits: 2, seed: 5 })
    const errorOf = (layer: QuantizedLayer) =>
      reconstructionError(weightOf(embedding), dequantize(layer), half).relative!
    expect(ends).toHaveLength(1)
    // the Hessians differ in their last bits
    expect(errorOf(ends[0].layer)).toBeCloseTo(errorOf(expected), 4)
    expect(ends[0].report.relativeError).toBeCloseTo(errorOf(ends[0].layer), 6)
    expect(ends[0].report.tokens).toBe(50)
  })

  it('stops when aborted', async () => {
    const error = await rejectionOf(() => rounded({ embeddingBits: 4 }, AbortSignal.abort()))
    expect(error).toBeInstanceOf(AbortedError)
  })
})
