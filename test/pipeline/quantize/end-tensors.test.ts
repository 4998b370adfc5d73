import { describe, expect, it } from 'vitest'
import { AbortedError, OptionError } from '../../../src/errors.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { packedBytes } from '../../../src/packing/bits-per-value.js'
import { dequantize, pack } from '../../../src/packing/quantized-layer.js'
import type { ScalarLayer } from '../../../src/packing/scalar-layer.js'
import {
  type EndTensorOptions,
  endTensors,
  quantizeEndTensors,
} from '../../../src/pipeline/quantize/end-tensors.js'
import type { LayerReport } from '../../../src/pipeline/quantize/layers/layer-report.js'
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
  it.each<[string, typeof untied, EndTensorOptions, object[]]>([
    ['nothing', untied, {}, []],
    ['the embedding alone', untied, { embeddingBits: 8 }, [{ name: embedding, ...size, bits: 8 }]],
    ['the head alone', untied, { headBits: 4 }, [{ name: head, ...size, bits: 4 }]],
    [
      'both, each with its bits',
      untied,
      { embeddingBits: 4, headBits: 8 },
      [
        { name: embedding, ...size, bits: 4 },
        { name: head, ...size, bits: 8 },
      ],
    ],
    ['one tensor where they are tied', tied, { embeddingBits: 4 }, [{ name: embedding, ...size, bits: 4 }]],
    [
      'one tensor where they are tied, asked for twice alike',
      tied,
      { embeddingBits: 4, headBits: 4 },
      [{ name: embedding, ...size, bits: 4 }],
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
  const rounded = async (options: EndTensorOptions, signal?: AbortSignal) => {
    const done: { name: string; layer: ScalarLayer; report: LayerReport }[] = []
    await quantizeEndTensors(
      sourceOf(tensors),
      endTensors(untied, options),
      async (name, layer, report) => {
        done.push({ name, layer, report })
      },
      signal,
    )
    return done
  }

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

  it('stops when aborted', async () => {
    const error = await rejectionOf(() => rounded({ embeddingBits: 4 }, AbortSignal.abort()))
    expect(error).toBeInstanceOf(AbortedError)
  })
})
