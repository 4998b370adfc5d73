import { beforeAll, describe, expect, it } from 'vitest'
import { startEngine } from '../../../src/model/ops/engine.js'
import {
  closeCaches,
  decodeTokens,
  disposeDecoder,
  loadDecoder,
  openCaches,
} from '../../../src/model/passes/cached-decoder.js'
import { forwardLogits } from '../../../src/model/passes/forward-logits.js'
import { availableEngines } from '../../support/engines.js'
import { type Fixture, fixtureNames, openFixture, rangeOf, worstDifference } from './fixture.js'

const engines = await availableEngines()

/** Worst error of a logit, as a share of the range of all. */
const BOUND = 1e-4

describe.each(engines)('what transformers computes, on the engine %s', (engine) => {
  beforeAll(async () => {
    expect(await startEngine(engine)).toBe(engine)
  })

  it.each(fixtureNames)('%s: the hidden states after each block, and the logits', async (name) => {
    const { source, config, tokens, logits, hidden } = await openFixture(name)
    const seen: Float32Array[] = []
    const computed = await forwardLogits(source, config, tokens, 2, (states) => seen.push(states.slice()))
    for (const [index, states] of seen.entries()) {
      expect(worstDifference(states, hidden[index]) / rangeOf(hidden[index]), `hidden ${index}`).toBeLessThan(
        BOUND,
      )
    }
    expect(worstDifference(computed, logits) / rangeOf(logits)).toBeLessThan(BOUND)
  })

  it.each(fixtureNames)('%s: token by token with a cache, and a prompt in parts', async (name) => {
    const fixture = await openFixture(name)
    for (const cuts of [Array.from({ length: 20 }, () => 1), [7, 1, 9, 3]]) {
      const computed = await cachedLogits(fixture, cuts)
      expect(worstDifference(computed, fixture.logits) / rangeOf(fixture.logits)).toBeLessThan(BOUND)
    }
  })
})

/** Logits of both sequences, tokens x vocabSize, given some tokens of each at a time. */
async function cachedLogits({ source, config, tokens, logits }: Fixture, cuts: readonly number[]) {
  const length = tokens.length / 2
  const { vocabSize } = config
  const decoder = await loadDecoder(source, config)
  const caches = openCaches(decoder, 2, length)
  const computed = new Float32Array(logits.length)
  try {
    let position = 0
    for (const count of cuts) {
      const from = (sequence: number) => sequence * length + position
      const part = [0, 1].flatMap((sequence) => [...tokens.subarray(from(sequence), from(sequence) + count)])
      const found = await decodeTokens(decoder, caches, Int32Array.from(part))
      for (const sequence of [0, 1]) {
        const own = found.subarray(sequence * count * vocabSize, (sequence + 1) * count * vocabSize)
        computed.set(own, from(sequence) * vocabSize)
      }
      position += count
    }
  } finally {
    closeCaches(caches)
    disposeDecoder(decoder)
  }
  return computed
}
