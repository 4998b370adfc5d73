import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as tf from '@tensorflow/tfjs-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../../src/checkpoint/checkpoint.js'
import { checkpointWeights } from '../../../src/checkpoint/model-weights.js'
import { HessianAccumulator, matrix, reconstructionError } from '../../../src/index.js'
import { disposeBlock, openBlock } from '../../../src/model/decoder/block.js'
import { embedTokens } from '../../../src/model/decoder/embedding.js'
import { linearLayers } from '../../../src/model/decoder/linears.js'
import { runBlock } from '../../../src/model/decoder/run-block.js'
import { blockStages } from '../../../src/model/decoder/stages.js'
import type { WeightSource } from '../../../src/model/decoder/weights.js'
import {
  dequantize,
  dequantizeModel,
  evaluateModel,
  inspectModel,
  type OpenModel,
  openModel,
  type QuantizationReport,
  type QuantizedLayer,
  type QuantizeModelOptions,
  quantizeModel,
  startEngine,
  withQuantizedLayers,
} from '../../../src/model.js'
import { calibrationStream, passStage } from '../../../src/pipeline/calibrate/calibration-stream.js'
import { collectStatistics } from '../../../src/pipeline/calibrate/statistics/input-statistics.js'
import { watchKernelArrays } from '../../support/kernel-arrays.js'
import { tinyText, writeTinyModel } from '../../support/tiny-model.js'

const length = 32
const count = 12
let folder: string
let model: string
let output: string
let report: QuantizationReport
let full: OpenModel
const layers = new Map<string, QuantizedLayer>()
const sequences = Array.from({ length: count }, (_, i) =>
  Int32Array.from({ length }, (_, t) => (i * 37 + t * t * 11 + t) % 256),
)
const options = (): QuantizeModelOptions => ({
  model,
  calibration: { sequences },
  bpv: 4,
  columnsPerGroup: 16,
})

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-quantize-'))
  model = join(folder, 'model')
  output = join(folder, 'quantized')
  await writeTinyModel(model)
  full = await openModel(model)
  report = await quantizeModel({
    ...options(),
    output,
    onLayer: (name, layer) => layers.set(name, layer),
  })
})

afterAll(async () => {
  await full.close()
  await rm(folder, { recursive: true, force: true })
})

/** The inputs of a block's linear layers while the calibration tokens run through the given weights. */
async function inputsOf(source: WeightSource, index: number) {
  await startEngine('wasm')
  const { config } = full
  const tokens = new Int32Array(sequences.flatMap((sequence) => Array.from(sequence)))
  let hidden = await embedTokens(source, config, tokens)
  const inputs = new Map<string, { data: Float32Array; cols: number }>()
  for (let i = 0; i <= index; i++) {
    const block = await openBlock(source, config.blocks[i])
    hidden = await runBlock(block, hidden, count, length, {
      onInput({ linears }, input) {
        const data = Float32Array.from(input.data)
        for (const { kind } of linears) inputs.set(kind, { data, cols: input.cols })
      },
    })
    disposeBlock(block)
  }
  return inputs
}

/** A weight of block 1 of the full model. */
async function weightOf(name: string) {
  const { rows, cols } = linearLayers(full.config, 1).find((linear) => linear.name === name)!
  return matrix(rows, cols, await full.source.floats(name))
}

/** The relative error of a layer of block 1 on inputs that came through the layers of `before`. */
async function relativeErrorOn(
  name: string,
  weight: ReturnType<typeof matrix>,
  before: ReadonlyMap<string, QuantizedLayer>,
  quantized: ReadonlyMap<string, QuantizedLayer>,
): Promise<number> {
  const inputs = await inputsOf(withQuantizedLayers(full.source, new Map(before)), 1)
  const { data, cols } = inputs.get('mlp.down_proj')!
  const accumulator = new HessianAccumulator(cols)
  accumulator.add(matrix(count * length, cols, data))
  return reconstructionError(weight, dequantize(quantized.get(name)!), accumulator.hessian()).relative
}

describe('collectStatistics', () => {
  it('gives (2 / tokens) X^T X of each layer’s inputs, summed in float64', async () => {
    const { source, config } = full
    const inputs = await inputsOf(source, 0)
    const block = await openBlock(source, config.blocks[0])
    const tokens = new Int32Array(sequences.flatMap((sequence) => Array.from(sequence)))
    const data = await embedTokens(source, config, tokens)
    const stream = calibrationStream(config, data, length)
    for (const stage of blockStages(config.blocks[0])) {
      const { data: x, cols } = inputs.get(stage.linears[0].kind)!
      const statistics = await collectStatistics(stage, { block, stream })
      const { hessian, tokens, pooled } = statistics.get(stage.linears[0].kind)!
      expect({ tokens, pooled }).toEqual({ tokens: count * length, pooled: undefined })
      await passStage(block, stage, stream)
      for (let i = 0; i < cols; i++) {
        for (let j = 0; j < cols; j++) {
          let sum = 0
          for (let t = 0; t < count * length; t++) sum += x[t * cols + i] * x[t * cols + j]
          expect(hessian.data[i * cols + j]).toBeCloseTo((2 * sum) / (count * length), 4)
        }
      }
    }
    disposeBlock(block)
  })
})

describe('quantizeModel', () => {
  it('takes the Hessians of a block from activations that came through the quantized blocks before it', async () => {
    const name = 'model.layers.1.mlp.down_proj.weight'
    const weight = await weightOf(name)
    const quantized = new Map<string, QuantizedLayer>()
    const { layers: reports } = await quantizeModel({
      ...options(),
      // coarse, for what comes before to show
      bpv: 2.25,
      bits: 2,
      layerOrder: 'block',
      driftCorrection: 0,
      onLayer: (layerName, layer) => quantized.set(layerName, layer),
    })
    const stated = reports.find((layer) => `${layer.name}.weight` === name)!.relativeError!
    const errorThrough = (wanted: (name: string) => boolean) =>
      relativeErrorOn(name, weight, new Map([...quantized].filter(([layer]) => wanted(layer))), quantized)
    const isBefore = (layer: string) => layer.startsWith('model.layers.0.')
    expect((await errorThrough(isBefore)) / stated).toBeCloseTo(1, 3)
    expect(Math.abs((await errorThrough(() => false)) / stated - 1)).toBeGreaterThan(0.01)
    expect(Math.abs((await errorThrough((layer) => layer !== name)) / stated - 1)).toBeGreaterThan(0.01)
  })

  it('in sequential order takes them from activations that came through all quantized layers before', async () => {
    const name = 'model.layers.1.mlp.down_proj.weight'
    const weight = await weightOf(name)
    const quantized = new Map<string, QuantizedLayer>()
    const { layers: reports } = await quantizeModel({
      ...options(),
      driftCorrection: 0,
      onLayer: (layerName, layer) => quantized.set(layerName, layer),
    })
    const stated = reports.find((layer) => `${layer.name}.weight` === name)!.relativeError!
    const before = new Map([...quantized].filter(([layer]) => layer !== name))
    expect((await relativeErrorOn(name, weight, before, quantized)) / stated).toBeCloseTo(1, 3)
  })

  it('brings the last hidden states nearer to those of the full model by correcting drift', async () => {
    const { source, config } = full
    const distance = async (driftCorrection: number) => {
      const quantized = new Map<string, QuantizedLayer>()
      await quantizeModel({
        ...options(),
        bits: 4,
        vectorDim: 2,
        driftCorrection,
        onLayer: (name, layer) => quantized.set(name, layer),
      })
      const wanted = (await inputsOf(source, 1)).get('mlp.down_proj')!.data
      const given = (await inputsOf(withQuantizedLayers(source, quantized), 1)).get('mlp.down_proj')!.data
      return wanted.reduce((sum, value, i) => sum + (value - given[i]) ** 2, 0)
    }
    expect(config.blocks.length).toBe(2)
    expect(await distance(0.8)).toBeLessThan(0.9 * (await distance(0)))
  })

  it('writes layers that read back as the weights they stood for in memory, bit for bit', async () => {
    const checkpoint = await openCheckpoint(output)
    const weights = checkpointWeights(checkpoint)
    expect(layers.size).toBe(14)
    for (const [name, layer] of layers) expect(await weights.floats(name)).toEqual(dequantize(layer).data)
    await checkpoint.close()
  })

  it('counts bits and bytes from what it wrote, and keeps all else byte for byte', async () => {
    const [before, after] = [await openCheckpoint(model), await openCheckpoint(output)]
    let quantizedBytes = 0
    for (const { name, bytes, dtype, shape } of after.tensors.values()) {
      if (/\.vq_/.test(name)) quantizedBytes += bytes
      else {
        expect({ dtype, shape }).toEqual({
          dtype: before.tensors.get(name)!.dtype,
          shape: before.tensors.get(name)!.shape,
        })
        expect(await after.readBytes(name)).toEqual(await before.readBytes(name))
      }
    }
    const weights = report.layers.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
    expect(report.layerBytes).toEqual({ before: 4 * weights, after: quantizedBytes })
    expect(report.bitsPerValue).toBe((8 * quantizedBytes) / weights)
    expect(report.bitsPerValue).toBeLessThanOrEqual(4)
    expect(await readFile(join(output, 'tokenizer.json'))).toEqual(
      await readFile(join(model, 'tokenizer.json')),
    )
    const { quantization_config: quantization, ...config } = after.config
    expect(config).toEqual(before.config)
    expect(quantization).toMatchObject({ quant_method: 'gptvq', version: 2, method: 'gptvq' })
    await before.close()
    await after.close()
  })

  it('gives the same bytes for the same seed, in one file or in shards the same tensors', async () => {
    const again = join(folder, 'again')
    await quantizeModel({ ...options(), output: again })
    for (const file of await readdir(output)) {
      expect(await readFile(join(again, file))).toEqual(await readFile(join(output, file)))
    }
    const sharded = join(folder, 'sharded')
    await quantizeModel({ ...options(), output: sharded, maxShardBytes: 20_000 })
    expect((await readdir(sharded)).filter((file) => file.endsWith('.safetensors')).length).toBeGreaterThan(2)
    const [one, many] = [await openCheckpoint(output), await openCheckpoint(sharded)]
    expect([...many.tensors.keys()].sort()).toEqual([...one.tensors.keys()].sort())
    for (const name of one.tensors.keys())
      expect(await many.readBytes(name)).toEqual(await one.readBytes(name))
    await one.close()
    await many.close()
  })

  it.each<[string, Partial<QuantizeModelOptions>]>([
    ['gptq', { method: 'gptq', bpv: undefined, columnsPerGroup: undefined }],
    ['gptvq with drift corrected and tuned codebooks', { bits: 1, bpv: undefined, tuningEpochs: 1 }],
    [
      'bits shared out and text of its own',
      { bits: 'mixed', bpv: 2.2, calibration: undefined, sequences: 2 },
    ],
  ])('leaves nothing in the memory of the engine: %s', async (_, own) => {
    await startEngine('wasm')
    const arrays = watchKernelArrays()
    const before = tf.memory().numTensors
    await quantizeModel({ ...options(), sequenceLength: 32, ...own })
    expect([tf.memory().numTensors, arrays.inUse()]).toEqual([before, 0])
    expect(arrays.allocated()).toBeGreaterThan(0)
    arrays.stop()
  })

  it('reads the linear layers of one block at a time, never a later block before an earlier one is done', async () => {
    const order: string[] = []
    await quantizeModel({
      ...options(),
      method: 'gptq',
      bpv: undefined,
      columnsPerGroup: undefined,
      onLayer: (name) => order.push(name),
    })
    expect(order).toEqual([...layers.keys()])
    expect(order).toEqual(order.toSorted((a, b) => Number(a.split('.')[2]) - Number(b.split('.')[2])))
  })

  it('evaluates a written folder exactly as the model in memory, and a dequantized one too', async () => {
    const plain = join(folder, 'plain')
    await dequantizeModel({ model: output, output: plain, dtype: 'F32' })
    const text = { text: tinyText(1000, 5) }
    const score = (folder: string) => evaluateModel({ model: folder, reference: model, text, context: 32 })
    const written = await score(output)
    expect(written.klDivergence).toBeGreaterThan(0)
    expect(await score(plain)).toEqual(written)
    expect((await score(model)).klDivergence).toBe(0)
  })

  it('writes block scales that read back bit for bit, counts and shows them', async () => {
    const scaled = join(folder, 'scaled')
    const inMemory = new Map<string, QuantizedLayer>()
    const { bitsPerValue } = await quantizeModel({
      ...options(),
      columnsPerGroup: 32,
      scaleBlockSize: 16,
      output: scaled,
      onLayer: (name, layer) => inMemory.set(name, layer),
    })
    expect(bitsPerValue).toBeLessThanOrEqual(4)
    const inspection = await inspectModel(scaled)
    expect(inspection.settings).toMatchObject({ scaleBlockSize: 16 })
    expect(inspection.quantizedBitsPerValue).toBeCloseTo(bitsPerValue, 9)
    expect(inspection.weights[0].format).toMatch(/^vq 1-D, [\d.]+ bits, scale per 16$/)
    const plain = join(folder, 'scaled-plain')
    await dequantizeModel({ model: scaled, output: plain, dtype: 'F32' })
    const read = await openCheckpoint(plain)
    for (const [name, layer] of inMemory) {
      expect(await read.readFloats(name)).toEqual(dequantize(layer).data)
    }
    await read.close()
  })

  it('says when the text or the context holds less than was asked for', async () => {
    const text = { text: tinyText(200, 3) }
    const { calibration } = await quantizeModel({ ...options(), calibration: text, bits: 1 })
    expect(calibration).toMatchObject({ sequences: 3, length: 64 })
    expect(calibration!.notes.join('\n')).toMatch(/64 tokens, the model's context, instead of 2048/)
    expect(calibration!.notes.join('\n')).toMatch(/200 tokens, enough for 3 of 128 sequences/)
  })

  it('calibrates on the model’s own text when none is given, the same text for the same seed', async () => {
    const own = { ...options(), calibration: undefined, sequences: 2, sequenceLength: 32 }
    const [first, second] = [await quantizeModel(own), await quantizeModel(own)]
    expect(first.calibration!.notes.join()).toMatch(/written by the model itself/)
    expect(second.layers.map(({ relativeError }) => relativeError)).toEqual(
      first.layers.map(({ relativeError }) => relativeError),
    )
  })
})
