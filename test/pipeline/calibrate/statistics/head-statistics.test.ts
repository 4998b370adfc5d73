import { beforeAll, expect, it } from 'vitest'
import { NumericError } from '../../../../src/common/errors.js'
import { describeDecoder } from '../../../../src/model/families/index.js'
import { startEngine } from '../../../../src/model/ops/engine.js'
import { forwardLogits } from '../../../../src/model/passes/forward-logits.js'
import {
  collectHeadStatistics,
  type HeadPass,
} from '../../../../src/pipeline/calibrate/statistics/head-statistics.js'
import { randomTensors, smallConfig } from '../../../model/reference-forward.js'
import { sourceOf } from '../../../model/tiny-llama.js'
import { rejectionOf } from '../../../support/tolerance.js'

const config = describeDecoder({ ...smallConfig }, 'config.json')
const tensors = randomTensors(smallConfig, 4)
const sequences = Array.from({ length: 5 }, (_, i) =>
  Int32Array.from({ length: 7 }, (_, t) => (3 * i + 5 * t) % smallConfig.vocab_size),
)
const calibration = { sequences, length: 7, notes: [] }
const pass = (source = sourceOf(tensors)): HeadPass => ({
  weights: source,
  config,
  calibration,
  signal: undefined,
  onProgress: () => {},
})

beforeAll(() => startEngine('wasm'))

it('is the Hessian of the hidden states behind the final norm', async () => {
  const { hiddenSize } = config
  const scale = tensors.get('model.norm.weight')!.values
  const expected = new Float64Array(hiddenSize ** 2)
  for (const sequence of sequences) {
    let last = new Float32Array()
    await forwardLogits(sourceOf(tensors), config, sequence, 1, (hidden) => {
      last = Float32Array.from(hidden)
    })
    for (let t = 0; t < sequence.length; t++) {
      const x = last.subarray(t * hiddenSize, (t + 1) * hiddenSize)
      const mean = x.reduce((sum, value) => sum + value ** 2, 0) / hiddenSize
      const y = Float64Array.from(
        x,
        (value, i) => (scale[i] * value) / Math.sqrt(mean + smallConfig.rms_norm_eps),
      )
      for (let i = 0; i < hiddenSize; i++) {
        for (let j = 0; j < hiddenSize; j++) expected[i * hiddenSize + j] += (2 / 35) * y[i] * y[j]
      }
    }
  }
  const { hessian, tokens } = await collectHeadStatistics(pass())
  expect(tokens).toBe(35)
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  for (const [i, value] of expected.entries()) {
    expect(Math.abs(hessian.data[i] - value)).toBeLessThan(1e-5 * largest)
  }
})

it('a final norm that is damaged is told by the name of the head', async () => {
  const damaged = new Map(tensors)
  const norm = tensors.get('model.norm.weight')!
  damaged.set('model.norm.weight', { ...norm, values: norm.values.map(() => 3e38) })
  const error = await rejectionOf(() => collectHeadStatistics(pass(sourceOf(damaged))))
  expect(error).toBeInstanceOf(NumericError)
  expect((error as Error).message).toMatch(/^input of lm_head\.weight: /)
})
