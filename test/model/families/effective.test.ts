import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { rotaryFrequencies } from '../../../src/model/decoder/rotary.js'
import { describeDecoder, supportedFamilies } from '../../../src/model/families/index.js'

/** Real `config.json`s, written down from memory; where lists of factors are long, with others of the same length. */
const published: Record<string, Record<string, unknown>> = readJson('published.json')

interface Effective {
  readonly heads: number
  readonly kvHeads: number
  readonly maxPositions: number
  readonly epsilon: number
  readonly activation: string
  readonly tied: boolean
  readonly bos: number | null
  readonly eos: readonly number[]
  readonly embeddingScale: number
  readonly logitDivisor: number
  readonly logitCap: number | null
  readonly scoreCap: number | null
  readonly residualScale: number
  readonly parallel: boolean
  readonly clip: number | null
  readonly experts?: readonly [count: number, active: number, sumToOne: boolean]
  readonly layers: readonly (readonly [count: number, layer: EffectiveLayer])[]
}

interface EffectiveLayer {
  readonly scale: number
  readonly headDim: number
  readonly window: number | null
  readonly routed: boolean
  readonly rotary:
    | readonly [first: number, second: number, last: number, pairs: number, attentionFactor: number]
    | null
}

/** By `scripts/oracle/effective.py`: what transformers makes of the published files, and of a family's sizes alone. */
const golden: Record<string, Effective> = readJson('effective-golden.json')

/** As in that script. */
const sizes = {
  hidden_size: 512,
  intermediate_size: 64,
  num_hidden_layers: 7,
  num_attention_heads: 32,
  vocab_size: 200000,
}

function readJson<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(name, import.meta.url), 'utf8'))
}

function configOf(name: string): Record<string, unknown> {
  return published[name] ?? { model_type: name, ...sizes }
}

it('the golden values are of every family', () => {
  expect(supportedFamilies.filter((name) => !Object.hasOwn(golden, name))).toEqual([])
  expect(Object.keys(published).filter((name) => !Object.hasOwn(golden, name))).toEqual([])
})

it.each(Object.entries(golden))('%s is understood as transformers understands it', (name, expected) => {
  const notes: string[] = []
  const { blocks, head, embedding, ...description } = describeDecoder(configOf(name), name, notes)
  expect(notes).toEqual([])
  expect(description).toMatchObject({
    maxPositions: expected.maxPositions,
    bosTokenId: expected.bos ?? undefined,
    eosTokenIds: expected.eos,
    finalNorm: { epsilon: expected.epsilon },
  })
  expect(head.tensor === embedding.tensor).toBe(expected.tied)
  expect(embedding.scale).toBeCloseTo(expected.embeddingScale, 12)
  expect(head.scale).toBeCloseTo(1 / expected.logitDivisor, 12)
  expect(head.softCap ?? null).toBe(expected.logitCap)
  const layers = expected.layers.flatMap(([count, layer]) => Array<EffectiveLayer>(count).fill(layer))
  expect(blocks.length).toBe(layers.length)
  for (const [index, { attention, feedForward, parallel, residualScale }] of blocks.entries()) {
    const layer = layers[index]
    expect({ parallel, residualScale, heads: attention.heads, kvHeads: attention.kvHeads }).toEqual({
      parallel: expected.parallel,
      residualScale: expected.residualScale,
      heads: expected.heads,
      kvHeads: expected.kvHeads,
    })
    expect(attention.headDim).toBe(layer.headDim)
    expect(attention.scale).toBeCloseTo(layer.scale, 12)
    expect(attention.window ?? null).toBe(layer.window)
    expect(attention.softCap ?? null).toBe(expected.scoreCap)
    expect(attention.clip ?? null).toBe(expected.clip)
    expect(feedForward.kind === 'routed').toBe(layer.routed)
    const dense = feedForward.kind === 'routed' ? feedForward.experts[0] : feedForward
    expect(dense.activation).toBe(expected.activation)
    if (feedForward.kind === 'routed') {
      const { experts, active, sumToOne } = feedForward
      expect([experts.length, active, sumToOne]).toEqual(expected.experts)
    }
    expect(attention.rotary === undefined).toBe(layer.rotary === null)
    if (attention.rotary === undefined || layer.rotary === null) continue
    const { frequencies, attentionFactor } = rotaryFrequencies(attention.rotary, 1)
    const [first, second, last, pairs, factor] = layer.rotary
    expect(frequencies.length).toBe(pairs)
    expect(attentionFactor).toBeCloseTo(factor, 12)
    const found = [frequencies[0], frequencies[1], frequencies[pairs - 1]]
    for (const [at, one] of [first, second, last].entries()) expect(found[at] / one).toBeCloseTo(1, 5)
  }
})
