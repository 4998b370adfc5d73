import { describe, expect, it } from 'vitest'
import { OptionError, TextError } from '../../../src/index.js'
import type { DecoderDescription } from '../../../src/model/decoder/description.js'
import type { WeightSource } from '../../../src/model/decoder/weights.js'
import { type CalibrationOptions, gatherCalibration } from '../../../src/pipeline/calibrate/calibration.js'

const config = { vocabSize: 5000, maxPositions: 64 } as DecoderDescription
const noWeights = {} as WeightSource
const tokens = Int32Array.from({ length: 1000 }, (_, i) => i)
const gather = (options: CalibrationOptions) =>
  gatherCalibration({ calibration: { tokens }, ...options }, 'nowhere', noWeights, config, () => {})

describe('gatherCalibration', () => {
  it('draws runs of tokens that do not overlap and lie in the text', async () => {
    for (const seed of [0, 1, 2, 3]) {
      const { sequences } = await gather({ sequences: 10, sequenceLength: 50, seed })
      expect(sequences).toHaveLength(10)
      const seen = new Set<number>()
      for (const sequence of sequences) {
        expect(Array.from(sequence)).toEqual(Array.from({ length: 50 }, (_, i) => sequence[0] + i))
        for (const token of sequence) {
          expect(seen.has(token)).toBe(false)
          seen.add(token)
        }
      }
    }
  })

  it('draws the same for the same seed and others for another', async () => {
    const starts = async (seed: number) =>
      (await gather({ sequences: 8, sequenceLength: 40, seed })).sequences.map((sequence) => sequence[0])
    expect(await starts(1)).toEqual(await starts(1))
    expect(await starts(1)).not.toEqual(await starts(2))
  })

  it('uses all of a text that is exactly long enough', async () => {
    const { sequences, notes } = await gather({ sequences: 20, sequenceLength: 50 })
    expect(sequences.map((sequence) => sequence[0]).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 20 }, (_, i) => 50 * i),
    )
    expect(notes).toEqual([])
  })

  it('begins each sequence with the first token that a model needs, which the text has once at most', async () => {
    const needing = { ...config, firstToken: 4999, family: 'gemma' }
    const gatherFor = (text: Int32Array, sequences: number) =>
      gatherCalibration(
        { calibration: { tokens: text }, sequences, sequenceLength: 51 },
        'nowhere',
        noWeights,
        needing,
        () => {},
      )
    for (const text of [tokens, Int32Array.of(4999, ...tokens)]) {
      const { sequences, length, notes } = await gatherFor(text, 20)
      expect(length).toBe(51)
      const starts = sequences.map((sequence) => {
        expect(Array.from(sequence)).toEqual([4999, ...Array.from({ length: 50 }, (_, i) => sequence[1] + i)])
        return sequence[1]
      })
      expect(starts.sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => 50 * i))
      expect(notes).toEqual(['each sequence begins with BOS (4999), which a gemma needs'])
    }
    await expect(gatherFor(tokens.slice(0, 49), 1)).rejects.toThrow(/has 49 tokens, one sequence needs 50/)
  })

  it('refuses a text shorter than one sequence, saying how long both are', async () => {
    const short = { tokens: tokens.slice(0, 63) }
    await expect(gather({ calibration: short })).rejects.toThrow(/has 63 tokens, one sequence needs 64/)
    await expect(gather({ calibration: short })).rejects.toThrow(TextError)
  })

  it('refuses sequences of several lengths, of one token and beyond the context', async () => {
    for (const lengths of [[8, 9], [1], [65], []]) {
      const sequences = lengths.map((length) => new Int32Array(length))
      await expect(gather({ calibration: { sequences } })).rejects.toThrow(
        /expected one length for all, from 2 to/,
      )
    }
  })

  it('refuses token ids that the model does not have', async () => {
    await expect(gather({ calibration: { tokens: Int32Array.of(1, 5000) } })).rejects.toThrow(/5000/)
    const sequences = [Int32Array.of(1, 2, -1)]
    await expect(gather({ calibration: { sequences } })).rejects.toThrow(/-1/)
  })

  it('refuses counts that are not', async () => {
    await expect(gather({ sequences: 0 })).rejects.toThrow(OptionError)
    await expect(gather({ sequenceLength: 1 })).rejects.toThrow(OptionError)
  })
})
