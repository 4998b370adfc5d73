import { describe, expect, it } from 'vitest'
import { TextError } from '../../../src/common/errors.js'
import { embedTokens } from '../../../src/model/decoder/embedding.js'
import type { WeightSource } from '../../../src/model/decoder/weights.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { randomTensors, smallConfig } from '../reference-forward.js'
import { sourceOf } from '../tiny-llama.js'

const json = { ...smallConfig, num_key_value_heads: 1 }
const config = describeDecoder({ ...json }, 'config.json')

describe('embedTokens', () => {
  it('reads only runs of rows of a large table, and gets the same rows', async () => {
    const wide = { ...config, vocabSize: 200_000, hiddenSize: 100 }
    const reads: number[] = []
    const source: WeightSource = {
      shape: () => [wide.vocabSize, wide.hiddenSize],
      floats: async () => {
        throw new Error('the whole table was asked for')
      },
      rows: async (_, first, count) => {
        reads.push(count)
        return Float32Array.from({ length: count * 100 }, (_, i) => first + Math.floor(i / 100))
      },
    }
    const ids = Int32Array.of(199_999, 5, 5, 7, 0, 100_000, 60_000, 100_016, 199_000)
    const hidden = await embedTokens(source, wide, ids)
    expect(Array.from(ids, (_, i) => hidden[i * 100 + 99])).toEqual(Array.from(ids))
    expect(reads).toEqual([8, 1, 17, 1, 1])
  })

  it('reads long runs in bounded pieces', async () => {
    const wide = { ...config, vocabSize: 100_000, hiddenSize: 1000 }
    const reads: number[] = []
    const source: WeightSource = {
      shape: () => [wide.vocabSize, wide.hiddenSize],
      floats: async () => new Float32Array(),
      rows: async (_, first, count) => {
        reads.push(count)
        return new Float32Array(count * 1000).fill(first)
      },
    }
    await embedTokens(
      source,
      wide,
      Int32Array.from({ length: 1000 }, (_, i) => i * 10),
    )
    expect(Math.max(...reads) * 1000 * 4).toBeLessThanOrEqual(2 ** 24)
  })

  it.each([-1, 17])('refuses the id %i, which is no row', async (id) => {
    const source = sourceOf(randomTensors(json, 5))
    const embedding = embedTokens(source, config, Int32Array.of(1, 2, id))
    await expect(embedding).rejects.toThrow(TextError)
    await expect(embedTokens(source, config, Int32Array.of(1, 2, id))).rejects.toThrow(
      `token 2 of the text has the id ${id}`,
    )
  })
})
