import { join } from 'node:path'
import { type OptionNames, refuseUnknown } from '../check-option.js'
import { type Checkpoint, openCheckpoint } from '../checkpoint/checkpoint.js'
import { checkpointWeights } from '../checkpoint/model-weights.js'
import { CheckpointError, throwIfAborted } from '../errors.js'
import { type VqOptions, vqOptionNames } from '../gptvq/options.js'
import { setThreads } from '../kernels/kernels.js'
import { type LlamaConfig, parseLlamaConfig } from '../model/config.js'
import { embedTokens } from '../model/embedding.js'
import { type EngineName, startEngine } from '../model/engine.js'
import { allLinearLayers } from '../model/linears.js'
import type { WeightSource } from '../model/weights.js'
import type { QuantizedLayer } from '../packing/quantized-layer.js'
import type { VqLayer } from '../packing/vq-layer.js'
import { quantizeCalibratedBlock } from './calibrated-block.js'
import { type Calibration, type CalibrationOptions, gatherCalibration } from './calibration.js'
import { type CalibrationStream, calibrationStream, copyStream } from './calibration-stream.js'
import { checkModel } from './check-model.js'
import type { LayerOrderOptions } from './layer-order.js'
import type { MixedBitsOptions } from './mixed/options.js'
import { shareBudget } from './mixed/share-budget.js'
import { createQuantizedOutput, type OutputOptions, type QuantizedOutput } from './output.js'
import { type OnProgress, type PartProgress, partOf } from './progress.js'
import { type OnQuantized, quantizeBlock } from './quantize-block.js'
import { type MethodSettings, type QuantizationMethod, resolveMethod } from './quantize-options.js'
import { type LayerReport, type QuantizationReport, totalBitsPerValue } from './report.js'
import { stopwatch } from './stopwatch.js'
import { type ModelTuningOptions, tuneModel } from './tune-model.js'
import type { TuningReport } from './tuning/report.js'

/** What to quantize, how, and where to. The settings of GPTVQ are those of `quantizeLayer`. */
export interface QuantizeModelOptions
  extends Omit<VqOptions, 'bits'>,
    MixedBitsOptions,
    CalibrationOptions,
    LayerOrderOptions,
    ModelTuningOptions,
    OutputOptions {
  /** A model folder in the Hugging Face layout. */
  model: string
  /** The folder to write. Left out, nothing is written; `onLayer` still receives every layer. */
  output?: string
  /** Default `'gptvq'`. For `'gptq'` and `'rtn'` `groupSize` counts weights of a row that share a scale, default 128. */
  method?: QuantizationMethod
  /** What runs the forward pass, default `'auto'`. */
  engine?: EngineName
  /** Threads of the kernels, for the whole process from now on; default `GPTVQ_THREADS`, else the cores there are. */
  threads?: number
  /** Receives what is being done and how much of it is done. */
  onProgress?: OnProgress
  /** Receives every layer as it is done, by the name of its weight. */
  onLayer?: (name: string, layer: QuantizedLayer) => void
  /** Stops the work; nothing is written then. */
  signal?: AbortSignal
}

const optionNames: OptionNames<QuantizeModelOptions> = {
  ...vqOptionNames,
  model: true,
  output: true,
  method: true,
  calibration: true,
  sequences: true,
  sequenceLength: true,
  layerOrder: true,
  driftCorrection: true,
  tuningEpochs: true,
  tuningSequences: true,
  force: true,
  maxShardBytes: true,
  engine: true,
  threads: true,
  onProgress: true,
  onLayer: true,
  signal: true,
}

/** Share of the whole work that writing a text for calibration takes, when the model does; for progress only. */
const SAMPLING_SHARE = 0.15
/** Share of the whole work that tuning the codebooks takes; for progress only. */
const TUNING_SHARE = 0.6
/** Share of the whole work that measuring the sensitivity of layers takes, where it is done; for progress only. */
const SENSITIVITY_SHARE = 0.5

/**
 * Quantizes the linear layers of a model block by block: the Hessians of a block come from calibration activations
 * that flowed through the quantized blocks before it. In memory at a time: one block, the activations between two
 * blocks, and the Hessians of one block.
 *
 * Embeddings, norms and head keep their bytes. The same options and files give the same bytes.
 *
 * @throws OptionError, TextError, CheckpointError, UnsupportedError, NumericError, each naming what is wrong;
 *   AbortedError when `signal` fires. On any of them nothing is written and what was there before is kept
 */
export async function quantizeModel(options: QuantizeModelOptions): Promise<QuantizationReport> {
  refuseUnknown(options, optionNames)
  const settings = resolveMethod(options.method ?? 'gptvq', options)
  if (options.threads !== undefined) setThreads(options.threads)
  const checkpoint = await openCheckpoint(options.model)
  let output: QuantizedOutput | undefined
  try {
    const config = parseLlamaConfig(checkpoint.config, join(options.model, 'config.json'))
    const weights = plainWeights(checkpoint)
    checkModel(weights, config, settings)
    if (options.output !== undefined) {
      const replaced = new Set(allLinearLayers(config).map(({ name }) => name))
      output = await createQuantizedOutput(options.output, checkpoint, replaced, settings, options)
    }
    return await run(options, settings, checkpoint, config, weights, output)
  } finally {
    await output?.discard()
    await checkpoint.close()
  }
}

function plainWeights(checkpoint: Checkpoint): WeightSource {
  const weights = checkpointWeights(checkpoint)
  if (weights.quantization === undefined) return weights
  throw new CheckpointError(
    `${checkpoint.folder}: is quantized already (method ${weights.quantization.method}); ` +
      'give the model it was made from, or undo it first with `gptvq dequantize`',
  )
}

async function run(
  options: QuantizeModelOptions,
  settings: MethodSettings,
  checkpoint: Checkpoint,
  config: LlamaConfig,
  weights: WeightSource,
  output: QuantizedOutput | undefined,
): Promise<QuantizationReport> {
  const { onProgress, onLayer, signal } = options
  const total = stopwatch()
  const lap = stopwatch()
  const seconds = { calibration: 0, sensitivity: 0, quantization: 0, tuning: 0, total: 0 }
  const layers: LayerReport[] = []
  const untuned = new Map<string, VqLayer>()
  const hand = async (name: string, layer: QuantizedLayer, report: LayerReport) => {
    onLayer?.(name, layer)
    await output?.addLayer(report.name, layer, report)
  }
  const tunes = settings.method === 'gptvq' && settings.tuning.tuningEpochs > 0
  const deliver: OnQuantized = async (linear, layer, report) => {
    layers.push(report)
    if (tunes && 'layout' in layer) untuned.set(linear.name, layer)
    else await hand(linear.name, layer, report)
  }
  const calibrated = settings.method !== 'rtn'
  const sampled = calibrated && options.calibration === undefined ? SAMPLING_SHARE : 0
  const end = tunes ? 1 - TUNING_SHARE : 1
  const calibration = calibrated
    ? await calibrate(options, config, weights, partOf(onProgress, 0, sampled))
    : undefined
  seconds.calibration += lap()
  const mixing = settings.method === 'gptvq' && settings.budget !== undefined && calibration !== undefined
  const start = mixing ? sampled + SENSITIVITY_SHARE * (end - sampled) : sampled
  const mixed = mixing
    ? await shareBudget({
        source: weights,
        config,
        sequences: calibration.sequences,
        options: settings.options,
        bpv: settings.budget,
        onProgress: partOf(onProgress, sampled, start),
        signal,
      })
    : undefined
  if (mixing) seconds.sensitivity = lap()
  const present = calibration && (await embed(calibration, weights, config))
  const full = present && settings.order.driftCorrection > 0 ? copyStream(present) : undefined
  const streams = present && { present, full }
  seconds.calibration += lap()
  for (let index = 0; index < config.layers; index++) {
    const share = (end - start) / config.layers
    const progress = partOf(onProgress, start + share * index, start + share * (index + 1))
    const inBlock: PartProgress = (step, done) =>
      progress(`block ${index + 1} of ${config.layers}: ${step}`, done)
    const layerBits = mixed?.layers
    const work = { weights, config, index, settings, layerBits, deliver, onProgress: inBlock, signal }
    if (streams) await quantizeCalibratedBlock(work, streams, seconds)
    else {
      await quantizeBlock(work, undefined)
      seconds.quantization += lap()
    }
  }
  let tuning: TuningReport | undefined
  if (tunes && calibration) {
    lap()
    const task = { weights, config, layers: untuned, calibration, seed: options.seed ?? 0, signal }
    const tuned = await tuneModel({ ...task, onProgress: partOf(onProgress, end, 1) }, settings.tuning)
    tuning = tuned.report
    for (const report of layers) {
      const name = `${report.name}.weight`
      await hand(name, tuned.layers.get(name)!, report)
    }
    seconds.tuning = lap()
  }
  onProgress?.({ step: output ? `writing ${options.output}` : 'done', done: 1 })
  throwIfAborted(signal)
  const written = await output?.finish()
  seconds.total = total()
  return {
    model: options.model,
    output: options.output ?? null,
    method: settings.method,
    settings: settings.stated,
    layers,
    bitsPerValue: totalBitsPerValue(layers),
    layerBytes: {
      before: layers.reduce((sum, { name }) => sum + checkpoint.tensors.get(`${name}.weight`)!.bytes, 0),
      after: layers.reduce((sum, { bytes }) => sum + bytes, 0),
    },
    outputBytes: written?.bytes ?? null,
    calibration: calibration
      ? { sequences: calibration.sequences.length, length: calibration.length, notes: calibration.notes }
      : null,
    tuning: tuning ?? null,
    mixed: mixed?.report ?? null,
    seconds,
  }
}

async function calibrate(
  options: QuantizeModelOptions,
  config: LlamaConfig,
  weights: WeightSource,
  onProgress: PartProgress,
): Promise<Calibration> {
  await startEngine(options.engine)
  const sampling = (done: number, total: number) =>
    onProgress('writing calibration text with the model', done / total)
  return gatherCalibration(options, options.model, weights, config, sampling, options.signal)
}

async function embed(
  { sequences, length }: Calibration,
  weights: WeightSource,
  config: LlamaConfig,
): Promise<CalibrationStream> {
  const tokens = new Int32Array(sequences.length * length)
  for (const [i, sequence] of sequences.entries()) tokens.set(sequence, i * length)
  return calibrationStream(config, await embedTokens(weights, config, tokens), length)
}
