import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../../src/checkpoint/checkpoint.js'
import { checkpointWeights } from '../../../src/checkpoint/model-weights.js'
import { AbortedError, OptionError } from '../../../src/index.js'
import {
  dequantize,
  inspectModel,
  type Progress,
  type QuantizationReport,
  type QuantizedLayer,
  type QuantizeModelOptions,
  quantizeModel,
} from '../../../src/model.js'
import { writeTinyModel } from '../../support/tiny-model.js'

const length = 32
const sequences = Array.from({ length: 12 }, (_, i) =>
  Int32Array.from({ length }, (_, t) => (i * 37 + t * t * 11 + t) % 256),
)
let folder: string
let model: string
let output: string
let report: QuantizationReport
const layers = new Map<string, QuantizedLayer>()
const progress: Progress[] = []
const options = (): QuantizeModelOptions => ({ model, calibration: { sequences }, bits: 'mixed', bpv: 2.25 })

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-mixed-'))
  model = join(folder, 'model')
  output = join(folder, 'quantized')
  await writeTinyModel(model)
  report = await quantizeModel({
    ...options(),
    output,
    onLayer: (name, layer) => layers.set(name, layer),
    onProgress: (step) => progress.push(step),
  })
})

afterAll(() => rm(folder, { recursive: true, force: true }))

describe("quantizeModel with bits 'mixed'", () => {
  it('keeps all layers together within the budget, and close to it', () => {
    const { mixed, layerBytes, bitsPerValue } = report
    expect(bitsPerValue).toBeLessThanOrEqual(2.25)
    expect(bitsPerValue).toBeGreaterThan(2.2)
    expect(mixed!.bytes.used).toBe(layerBytes.after)
    expect(mixed!.bytes.used).toBeLessThanOrEqual(mixed!.bytes.budget)
    const weights = report.layers.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
    expect(mixed!.bytes.budget).toBe(Math.floor((2.25 * weights) / 8))
  })

  it('shares out more bits than the short trellis of trials has room for', async () => {
    const { bitsPerValue } = await quantizeModel({
      ...{ model, calibration: { sequences }, bits: 'mixed', bpv: 5.5 },
      ...{ scaleBlockSize: 'none', columnsPerGroup: 32, refinementRounds: 0 },
    })
    expect(bitsPerValue).toBeLessThanOrEqual(5.5)
    expect(bitsPerValue).toBeGreaterThan(5.4)
  })

  it('gives layers different bits, and reports for each what it was given and what that is predicted to do', () => {
    const { mixed, layers: reports, settings } = report
    expect(new Set(mixed!.layers.map(({ bits }) => bits)).size).toBeGreaterThan(1)
    expect(mixed!.layers.map(({ name }) => name)).toEqual(reports.map(({ name }) => name))
    for (const [i, { bits, bpv, bytes, divergence }] of mixed!.layers.entries()) {
      expect(reports[i].bytes).toBe(bytes)
      expect(reports[i].bitsPerValue.total).toBeCloseTo(bpv, 12)
      expect(reports[i].bitsPerValue.index).toBeCloseTo(bits, 12)
      expect(divergence).toBeGreaterThan(0)
    }
    const sum = mixed!.layers.reduce((total, { divergence }) => total + divergence, 0)
    expect(mixed!.divergence).toBeCloseTo(sum, 12)
    expect(mixed!.sequences).toEqual({ count: 4, length })
    expect(settings).toMatchObject({ bits: 'mixed', bpv: 2.25, vectorDim: 2 })
    expect(settings).not.toHaveProperty('groupSize')
  })

  it('writes each layer with a layout of its own, which reads back bit for bit', async () => {
    const checkpoint = await openCheckpoint(output)
    const weights = checkpointWeights(checkpoint)
    for (const [name, layer] of layers) {
      const [read, stood] = [await weights.floats(name), dequantize(layer).data]
      expect(Buffer.compare(Buffer.from(read.buffer), Buffer.from(stood.buffer))).toBe(0)
    }
    await checkpoint.close()
    const formats = new Map((await inspectModel(output)).weights.map(({ name, format }) => [name, format]))
    for (const { name, bits } of report.mixed!.layers) {
      expect(formats.get(`${name}.weight`)).toMatch(new RegExp(`^vq 2-D, ${Number(bits.toFixed(2))} bits`))
    }
  })

  it('gives the same bytes for the same seed, on another number of threads too', async () => {
    const again = join(folder, 'again')
    await quantizeModel({ ...options(), output: again, threads: 2 })
    for (const file of await readdir(output)) {
      expect(Buffer.compare(await readFile(join(again, file)), await readFile(join(output, file)))).toBe(0)
    }
  })

  it('is predicted to do less harm with a larger budget', async () => {
    const { mixed } = await quantizeModel({ ...options(), bpv: 2.4 })
    expect(mixed!.divergence).toBeLessThan(report.mixed!.divergence)
  })

  it('reports progress that never falls, the measuring of the layers included', () => {
    expect(progress.some(({ step }) => /sensitivity/.test(step))).toBe(true)
    for (const [i, { done }] of progress.entries()) {
      expect(done).toBeGreaterThanOrEqual(i === 0 ? 0 : progress[i - 1].done)
    }
    expect(progress.at(-1)!.done).toBe(1)
  })

  it('stops while it measures when the signal fires', async () => {
    const controller = new AbortController()
    const onProgress = ({ step }: Progress) => {
      if (/sensitivity/.test(step)) controller.abort()
    }
    const stopped = quantizeModel({ ...options(), onProgress, signal: controller.signal })
    await expect(stopped).rejects.toBeInstanceOf(AbortedError)
  })

  it('refuses options that contradict it, before any work', async () => {
    const refusals: [Partial<QuantizeModelOptions>, RegExp][] = [
      [{ bpv: 0.5 }, /^bpv: 0\.5 cannot be met/],
      [{ bpv: 13 }, /^bpv: 13 is more than/],
      [{ groupSize: 1024 }, /^groupSize: bits 'mixed' chooses the group size/],
      [{ method: 'rtn', calibration: undefined }, /^bits: 'mixed' works with method 'gptvq' only/],
      [{ method: 'gptq' }, /^bits: 'mixed' works with method 'gptvq' only/],
    ]
    for (const [wrong, message] of refusals) {
      const error = await quantizeModel({ ...options(), ...wrong }).catch((e) => e)
      expect(error).toBeInstanceOf(OptionError)
      expect(error.message).toMatch(message)
    }
  })

  it('leaves the report empty where all layers have the same bits', async () => {
    const { mixed, seconds } = await quantizeModel({ ...options(), bits: 2, bpv: 3 })
    expect(mixed).toBeNull()
    expect(seconds.sensitivity).toBe(0)
  })
})
