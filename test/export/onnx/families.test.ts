import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exportOnnx } from '../../../src/export/onnx/export-onnx.js'
import { fixtureNames, openFixture, rangeOf, worstDifference } from '../../model/families/fixture.js'
import { onnxLogits, openOnnx } from './run-onnx.js'

/** Worst error of a logit, as a share of the range of all. */
const BOUND = 1e-4

let root: string

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'gptvq-onnx-'))
})

afterAll(() => rm(root, { recursive: true, force: true }))

describe('what transformers computes of each family, in onnxruntime', () => {
  it.each(fixtureNames)('%s: whole sequences, and in parts with a cache', async (name) => {
    const { folder, tokens, logits } = await openFixture(name)
    const output = join(root, name)
    const { notes } = await exportOnnx({ model: folder, output })
    expect(notes.length).toBe(/dynamic|longrope/.test(name) ? 1 : 0)
    const session = await openOnnx(output)
    try {
      const range = rangeOf(logits)
      const whole = await onnxLogits(session, tokens, 2, [20])
      expect(worstDifference(whole, logits) / range).toBeLessThan(BOUND)
      if (name === 'llama-dynamic') return
      // with longrope the first call is longer than the original length: keys in a cache keep their angles
      const cuts = name === 'phi3-longrope-long' ? [9, 1, 10] : [7, 1, 9, 3]
      const parts = await onnxLogits(session, tokens, 2, cuts)
      expect(worstDifference(parts, logits) / range).toBeLessThan(BOUND)
    } finally {
      await session.release()
    }
  })
})
