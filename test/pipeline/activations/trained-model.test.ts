import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { evaluateModel } from '../../../src/pipeline/evaluate/evaluate-model.js'
import { type QuantizeModelOptions, quantizeModel } from '../../../src/pipeline/quantize/quantize-model.js'
import { tinyLlamaFolder } from '../../model/tiny-llama.js'

const model = tinyLlamaFolder
const text = (name: string) => join(model, 'texts', `${name}.txt`)
const calibrated = { calibration: text('calibration'), sequences: 8, sequenceLength: 128 }

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-trained-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function scored(options: Partial<QuantizeModelOptions>) {
  const output = join(folder, 'quantized')
  await quantizeModel({ model, output, force: true, ...options })
  const measured = { reference: model, text: text('evaluation'), context: 128, windows: 8 }
  return evaluateModel({ model: output, ...measured })
}

describe('a trained model', () => {
  it.each<[string, Partial<QuantizeModelOptions>]>([
    ['ranges of each token', {}],
    ['static ranges', { ...calibrated, activationRange: 'minmax' }],
  ])('in 8 bits of weights and activations has a perplexity within 2 percent: %s', async (_, options) => {
    const found = await scored({ scheme: 'w8a8', ...options })
    expect(Math.abs(found.perplexity / found.reference!.perplexity - 1)).toBeLessThan(0.02)
    expect(found.klDivergence).toBeGreaterThan(0)
  })

  it('in 4 and 8 bits loses less when it is equalized by auto', async () => {
    const options = { ...calibrated, scheme: 'w4a8', activationRange: 'minmax' } as const
    const plain = await scored(options)
    const equalized = await scored({ ...options, equalization: 'auto' })
    expect(equalized.klDivergence).toBeLessThan(plain.klDivergence!)
  })
})
