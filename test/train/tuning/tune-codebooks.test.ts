import * as tf from '@tensorflow/tfjs-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { quantizeKmeans } from '../../../src/baselines/kmeans.js'
import { quantizeRtn } from '../../../src/baselines/rtn.js'
import {
  AbortedError,
  OptionError,
  ShapeError,
  TextError,
  UnsupportedError,
} from '../../../src/common/errors.js'
import { matrix } from '../../../src/common/matrix.js'
import { randomGenerator } from '../../../src/common/random.js'
import { setThreads, threadCount } from '../../../src/kernels/kernels.js'
import { openHead } from '../../../src/model/decoder/head.js'
import { allLinearLayers } from '../../../src/model/decoder/linears.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { packLayer, unpackLayer } from '../../../src/packing/pack-layer.js'
import { decodeCodebooks, dequantizeLayer, lookUp, type VqLayer } from '../../../src/packing/vq-layer.js'
import { addGradients, forwardBlocks } from '../../../src/train/loop/passes.js'
import { noGradients, openStudent } from '../../../src/train/loop/student.js'
import { tuneCodebooks } from '../../../src/train/tuning/tune-codebooks.js'
import { trainableCodebooks } from '../../../src/train/weights/codebooks.js'
import {
  type ReferenceConfig,
  randomTensors,
  referenceForward,
  smallConfig,
} from '../../model/reference-forward.js'
import { sourceOf } from '../../model/tiny-llama.js'

const threads = threadCount()

beforeAll(async () => {
  await startEngine('wasm')
})

afterAll(() => setThreads(threads))

const json: ReferenceConfig = { ...smallConfig, num_key_value_heads: 1, vocab_size: 19 }
const config = describeDecoder({ ...json }, 'config.json')
const tensors = randomTensors(json, 11)
const source = sourceOf(tensors)
const noPause = async () => {}

function quantized(codebookBits: 8 | 16 = 8): Map<string, VqLayer> {
  return new Map(
    allLinearLayers(config).map(({ name, rows, cols }) => {
      const weight = matrix(rows, cols, tensors.get(name)!.values)
      return [name, quantizeKmeans(weight, { vectorDim: 2, bits: 2, groupSize: 120, codebookBits })]
    }),
  )
}

function text(count: number, length: number, seed: number): Int32Array[] {
  const random = randomGenerator(seed)
  return Array.from({ length: count }, () =>
    Int32Array.from({ length }, () => Math.floor(random() * config.vocabSize)),
  )
}

/** Mean KL(full || quantized) over all positions, in float64 throughout. */
function exactDivergence(
  weights: ReadonlyMap<string, Float32Array>,
  sequences: readonly Int32Array[],
): number {
  const replaced = new Map(
    Array.from(tensors, ([name, { shape, values }]) => [
      name,
      { shape, values: weights.get(name) ?? values },
    ]),
  )
  const predictions = (of: typeof tensors, tokens: Int32Array) =>
    referenceForward(json, of, [...tokens]).logits.map((logits) => {
      const sum = logits.reduce((total, logit) => total + Math.exp(logit), 0)
      return logits.map((logit) => logit - Math.log(sum))
    })
  let total = 0
  for (const tokens of sequences) {
    const actual = predictions(replaced, tokens)
    predictions(tensors, tokens).forEach((row, t) => {
      row.forEach((expected, token) => {
        total += Math.exp(expected) * (expected - actual[t][token])
      })
    })
  }
  return total / sequences.flatMap((tokens) => [...tokens]).length
}

const dequantized = (layers: ReadonlyMap<string, VqLayer>) =>
  new Map(Array.from(layers, ([name, layer]) => [name, dequantizeLayer(layer).data]))

describe('the divergence of a batch', () => {
  const sequences = text(3, 6, 1)
  const tokens = Int32Array.from(sequences.flatMap((sequence) => [...sequence]))

  async function ofBatch(layers: Map<string, VqLayer>, batch: Int32Array, length: number) {
    const trained = Array.from(
      layers,
      ([name, layer]) => [name, trainableCodebooks(layer, { indexRate: 0 })] as const,
    )
    const student = await openStudent(source, config, new Map(trained))
    const head = await openHead(source, config)
    const teacher = await forwardBlocks({ source, config }, await student.embed(batch), length, noPause)
    const gradients = noGradients(student)
    const task = { tokens: batch, length, teacher: { head, hidden: teacher }, distillation: 1 }
    const { divergence } = await addGradients(student, head, task, gradients, noPause)
    head.dispose()
    return {
      divergence,
      gradients: new Map(Array.from(gradients, ([name, [own]]) => [name, own as Float64Array])),
    }
  }

  it('equals that of float64 models', async () => {
    const layers = quantized()
    const { divergence } = await ofBatch(layers, tokens, 6)
    expect(Math.abs(divergence - exactDivergence(dequantized(layers), sequences))).toBeLessThan(2e-6)
  })

  it('has the slopes of float64 models along the codebooks of every layer', async () => {
    const layers = quantized(16)
    const { gradients } = await ofBatch(layers, tokens, 6)
    const weights = dequantized(layers)
    for (const [name, layer] of layers) {
      const gradient = gradients.get(name)!
      const values = decodeCodebooks(layer)
      const random = randomGenerator(values.length)
      const direction = Float64Array.from(values, () => 2 * random() - 1)
      const at = (by: number) => {
        const { layout, indices } = layer
        // the look-up copies numbers of whatever precision
        const moved = Float64Array.from(values, (value, i) => value + by * direction[i])
        const weight = new Float64Array(layout.rows * layout.cols)
        lookUp(
          layout,
          indices,
          moved as unknown as Float32Array,
          undefined,
          0,
          layout.rows,
          weight as unknown as Float32Array,
        )
        return exactDivergence(new Map([...weights, [name, weight as unknown as Float32Array]]), sequences)
      }
      const difference = (by: number) => (at(by) - at(-by)) / (2 * by)
      const slope = (4 * difference(2 ** -10) - difference(2 ** -9)) / 3
      const found = gradient.reduce((sum, value, i) => sum + value * direction[i], 0)
      const size = Math.sqrt(gradient.reduce((sum, value) => sum + value ** 2, 0))
      expect(Math.abs(found - slope)).toBeLessThanOrEqual(1e-5 * size + 1e-7)
    }
  })

  it('is the mean over its sequences when they are too many for one pass', async () => {
    const length = 64
    const long = Int32Array.from(text(40, length, 2).flatMap((sequence) => [...sequence]))
    const layers = quantized()
    const whole = await ofBatch(layers, long, length)
    const parts = [
      await ofBatch(layers, long.subarray(0, 10 * length), length),
      await ofBatch(layers, long.subarray(10 * length), length),
    ]
    expect(whole.divergence).toBeCloseTo((parts[0].divergence + 3 * parts[1].divergence) / 4, 6)
    for (const [name, gradient] of whole.gradients) {
      const size = Math.max(...gradient.map(Math.abs))
      const [first, second] = parts.map(({ gradients }) => gradients.get(name)!)
      gradient.forEach((value, i) => {
        expect(Math.abs(value - (first[i] + 3 * second[i]) / 4)).toBeLessThanOrEqual(1e-4 * size)
      })
    }
  })
})

describe('tuneCodebooks', () => {
  const sequences = text(24, 16, 3)
  const tune = (more: Partial<Parameters<typeof tuneCodebooks>[0]> = {}) =>
    tuneCodebooks({ source, config, layers: quantized(), sequences, ...more })

  it('lowers the divergence on text held out, and reports what its layers really have', async () => {
    const before = tf.memory().numTensors
    const { layers, report } = await tune({ options: { epochs: 5, batch: 4 } })
    expect(tf.memory().numTensors).toBe(before)
    expect(report.epochs.map(({ epoch }) => epoch)).toEqual(report.epochs.map((_, i) => i))
    expect(report.sequences).toEqual({ training: 21, heldOut: 3, length: 16 })
    const curve = report.epochs.map(({ heldOut }) => heldOut)
    expect(report.kept).toBe(curve.indexOf(Math.min(...curve)))
    expect(curve[report.kept]).toBeLessThan(0.9 * curve[0])
    const heldOut = [4, 12, 20].map((i) => sequences[i])
    const exact = exactDivergence(dequantized(layers), heldOut)
    expect(Math.abs(curve[report.kept] - exact)).toBeLessThan(1e-5)
    expect(Math.abs(curve[0] - exactDivergence(dequantized(quantized()), heldOut))).toBeLessThan(1e-5)
  })

  it('returns layers that are stored as they are, and changes nothing it was given', async () => {
    const given = quantized()
    const { layers } = await tune({ layers: given, options: { epochs: 1, batch: 8 } })
    expect(given).toEqual(quantized())
    expect([...layers.keys()]).toEqual([...given.keys()])
    for (const [name, layer] of layers) {
      expect(unpackLayer(packLayer(layer))).toEqual(layer)
      expect(layer.indices).toEqual(given.get(name)!.indices)
      expect(layer.codebooks).not.toEqual(given.get(name)!.codebooks)
    }
  })

  it('gives back what it was given when tuning only harms, and stops early', async () => {
    const layers = quantized()
    const options = { epochs: 9, learningRate: 0.99, patience: 2, batch: 1 }
    const result = await tune({ layers, options })
    expect(result.report.kept).toBe(0)
    expect(result.report.epochs).toHaveLength(3)
    expect(result.layers).toEqual(layers)
  })

  it('leaves linear layers full that are not quantized', async () => {
    const [name, layer] = [...quantized()][5]
    const { layers, report } = await tune({ layers: new Map([[name, layer]]), options: { epochs: 2 } })
    expect([...layers.keys()]).toEqual([name])
    const heldOut = [4, 12, 20].map((i) => sequences[i])
    expect(report.epochs[0].heldOut).toBeCloseTo(
      exactDivergence(dequantized(new Map([[name, layer]])), heldOut),
      5,
    )
  })

  it('gives the same bytes on any number of threads, and others by another seed', async () => {
    const run = async (count: number, seed: number) => {
      setThreads(count)
      return tune({ options: { epochs: 2, batch: 4, seed } })
    }
    const [one, two, other] = [await run(1, 0), await run(2, 0), await run(2, 1)]
    expect(two.layers).toEqual(one.layers)
    expect(two.report.epochs).toEqual(one.report.epochs)
    expect(other.layers).not.toEqual(one.layers)
  })

  it('reports progress that never falls and ends at 1', async () => {
    const done: number[] = []
    await tune({ options: { epochs: 2 }, onProgress: (progress) => done.push(progress.done) })
    expect(done).toEqual(done.toSorted((a, b) => a - b))
    expect(done[0]).toBe(0)
    expect(done.at(-1)).toBe(1)
  })

  it('stops when it is told to, and leaves no tensor behind', async () => {
    const before = tf.memory().numTensors
    const stop = new AbortController()
    const onProgress = ({ done }: { done: number }) => {
      if (done > 0.2) stop.abort()
    }
    await expect(tune({ onProgress, signal: stop.signal })).rejects.toThrow(AbortedError)
    expect(tf.memory().numTensors).toBe(before)
  })

  it('refuses what does not belong together, naming it', async () => {
    const layers = quantized()
    const [name, layer] = [...layers][0]
    const scalar = quantizeRtn(matrix(12, 12, tensors.get(name)!.values), { bits: 2 }) as unknown as VqLayer
    await expect(tune({ layers: new Map([[name, scalar]]) })).rejects.toThrow(UnsupportedError)
    await expect(tune({ layers: new Map([['lm_head.weight', layer]]) })).rejects.toThrow(ShapeError)
    await expect(tune({ layers: new Map([[[...layers][1][0], layer]]) })).rejects.toThrow(/6 x 12/)
    await expect(tune({ layers: new Map() })).rejects.toThrow(ShapeError)
    await expect(tune({ sequences: text(1, 16, 1) })).rejects.toThrow(TextError)
    await expect(tune({ sequences: text(4, 65, 1) })).rejects.toThrow(OptionError)
    await expect(tune({ sequences: [Int32Array.of(1, 2), Int32Array.of(1, 99)] })).rejects.toThrow(TextError)
    await expect(tune({ options: { epochs: 0 } })).rejects.toThrow(OptionError)
  })
})
