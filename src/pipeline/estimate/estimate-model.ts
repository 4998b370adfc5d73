import { requireModel } from '../../checkpoint/model-source.js'
import { refuseUnknown } from '../../common/check-option.js'
import { matrix } from '../../common/matrix.js'
import { randomGenerator } from '../../common/random.js'
import { kernels, setThreads, threadCount } from '../../kernels/kernels.js'
import { startProducts } from '../../kernels/native/start-products.js'
import { openEmbedding } from '../../model/decoder/embedding.js'
import { readRows } from '../../model/decoder/weights.js'
import { startEngine } from '../../model/ops/engine.js'
import { sampleSequences } from '../../model/passes/sampling.js'
import { joinTokens } from '../../train/loop/run-training.js'
import { isStatic } from '../activations/options.js'
import { type Calibration, gatherCalibration } from '../calibrate/calibration.js'
import {
  batchInMemory,
  batchSizes,
  type CalibrationStream,
  TOKENS_PER_BATCH,
} from '../calibrate/calibration-stream.js'
import { activationRoom } from '../calibrate/memory-bound.js'
import { seesText } from '../quantize/end-tensors.js'
import { NO_TIME, type PhaseSeconds } from '../quantize/phase-seconds.js'
import { type PreparedRun, prepareRun } from '../quantize/prepare-run.js'
import { endSettings, inputsOf } from '../quantize/quantize-ends.js'
import { type QuantizeModelOptions, quantizeModelOptionNames } from '../quantize/quantize-model-options.js'
import { isCalibrated } from '../quantize/quantize-options.js'
import { stopwatch } from '../stopwatch.js'
import { measureBlock } from './measure-block.js'
import { measureLayer } from './measure-layer.js'
import { type Extent, enoughOfLayer } from './measure-rows.js'
import { measureSharing } from './measure-sharing.js'
import { type CalibrationPlan, productSpeed } from './measure-stage.js'
import { type PeakMemory, peakMemory, streamsOf, sumOf } from './peak-memory.js'
import { type StoredSizes, storedSizes } from './stored-bytes.js'

/** What a run of {@link quantizeModel} with the same options would take. */
export interface Estimate extends StoredSizes {
  /** On this machine with these threads, as idle or busy as it was while it was measured. */
  readonly seconds: Readonly<PhaseSeconds> & {
    /** All of it, without tuning. */
    readonly total: number
  }
  /** Resident memory of the process at its peak. */
  readonly memoryBytes: number
  /** What that consists of. */
  readonly memory: PeakMemory
  /** Room on the output's disk: the output twice while it is put together, and what an interrupted run would leave. */
  readonly diskBytes: number
  /** Calibration tokens. */
  readonly tokens: number
  /** What it was measured on. */
  readonly machine: {
    /** Threads of the kernels. */
    readonly threads: number
    /** The build of the kernels, e.g. `'relaxed'`. */
    readonly kernels: string
    /** What multiplies matrices, as `startProducts` gives it. */
    readonly products: string
  }
  /** What the measurement took. */
  readonly measuredSeconds: number
  /** What is not in it. */
  readonly notes: readonly string[]
}

/** Weights times tokens of a block that are measured at most, so that it takes seconds. */
const MOST_WORK = 2 ** 33
/** Operations that take about a minute. */
const LONG_WORK = 3e12
/** Of a layer, so that what is run first is compiled. */
const WARM_UP: Extent = { rows: 64, cols: 1024 }
/** Positions of sampled text that are timed. */
const SAMPLED_POSITIONS = 6

/**
 * Estimates what `quantizeModel` would take with the same options: time from a few seconds of the real work on this
 * machine (a batch of tokens through a block, a part of the rows of each layer), memory, disk and bits from sizes.
 * Quantizes and writes nothing.
 *
 * @throws what `quantizeModel` throws for options and models
 */
export async function estimateModel(options: QuantizeModelOptions): Promise<Estimate> {
  return (await estimateIf(() => true, options))!
}

/** {@link estimateModel} of a run that takes about a minute or more; undefined for a shorter one, at once. */
export function estimateLongRun(options: QuantizeModelOptions): Promise<Estimate | undefined> {
  return estimateIf((prepared) => roughWork(prepared, options) > LONG_WORK, options)
}

async function estimateIf(
  isWanted: (prepared: PreparedRun) => boolean,
  options: QuantizeModelOptions,
): Promise<Estimate | undefined> {
  refuseUnknown(options, quantizeModelOptionNames)
  requireModel('model', options.model)
  if (options.threads !== undefined) setThreads(options.threads)
  const lap = stopwatch()
  const products = await startProducts(options.products)
  const prepared = await prepareRun(options)
  try {
    if (!isWanted(prepared)) return undefined
    const room = activationRoom(prepared, options)
    if (prepared.looksAtText) await startEngine(options.engine)
    const calibration = await calibrationToUse(prepared, options)
    const tokens = calibration ? calibration.sequences.length * calibration.length : 0
    const seconds = await measure(prepared, calibration, options)
    const unbounded = peakMemory(prepared, tokens)
    const activations = Math.min(unbounded.activations, room)
    const memory = { ...unbounded, activations }
    const spilled = unbounded.activations - activations
    const sizes = await storedSizes(prepared)
    const { tuning, sensitivity, calibration: calibrating, quantization } = seconds
    return {
      ...sizes,
      seconds: { ...seconds, total: tuning + sensitivity + calibrating + quantization },
      memoryBytes: sumOf(memory),
      memory,
      diskBytes: diskBytes(prepared, options, sizes, tokens) + spilled,
      tokens,
      machine: { threads: threadCount(), kernels: kernels().name, products },
      measuredSeconds: lap(),
      notes: leftOut(prepared, options),
    }
  } finally {
    await prepared.checkpoint.close()
  }
}

/** Parts of a run that nothing is measured of. */
function leftOut(
  { activations, equalizing }: PreparedRun,
  { tuningEpochs = 0 }: QuantizeModelOptions,
): string[] {
  return [
    ...(tuningEpochs > 0 ? ['tuning is not in the time'] : []),
    ...(equalizing.equalization === 'none' ? [] : ['equalizing is not in the time']),
    ...(isStatic(activations) ? ['finding the ranges of activations is not in the time'] : []),
  ]
}

/** Operations of a run, to the order of magnitude. */
function roughWork({ config, plan, settings }: PreparedRun, options: QuantizeModelOptions): number {
  if (!isCalibrated(settings)) return 0
  const { sequences = 128, sequenceLength = 2048 } = options
  const tokens = sequences * Math.min(sequenceLength, config.maxPositions)
  const weights = plan.linears.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
  const ofLayers = plan.linears.reduce((sum, { rows, cols }) => sum + rows * cols * cols, 0)
  return 10 * tokens * weights + 60 * ofLayers
}

/** The calibration itself, or where the model would write it, text of no meaning. */
async function calibrationToUse(
  { settings, weights, config }: PreparedRun,
  options: QuantizeModelOptions,
): Promise<Calibration | undefined> {
  if (!isCalibrated(settings)) return undefined
  if (options.calibration !== undefined) {
    return gatherCalibration(options, options.model, weights, config, () => {}, options.signal)
  }
  const { sequences: count = 128, sequenceLength = 2048 } = options
  const length = Math.min(sequenceLength, config.maxPositions)
  const random = randomGenerator(1)
  const sequences = Array.from({ length: count }, () =>
    Int32Array.from({ length }, () => Math.floor(random() * config.vocabSize)),
  )
  return { sequences, length, notes: [] }
}

async function measure(
  prepared: PreparedRun,
  calibration: Calibration | undefined,
  options: QuantizeModelOptions,
): Promise<PhaseSeconds> {
  const { config, settings, weights } = prepared
  const seconds = { ...NO_TIME }
  const lap = stopwatch()
  const stream = calibration && (await fewTokens(prepared, calibration))
  const plan = await calibrationPlan(prepared, calibration)
  await measureBlock(prepared, 0, stream, plan, WARM_UP)
  lap()
  const alike = blocksAlike(prepared)
  for (const [index, count] of alike) {
    const block = await measureBlock(
      prepared,
      index,
      calibration && (await fewTokens(prepared, calibration)),
      plan,
      enoughOfLayer(),
    )
    seconds.calibration += count * block.calibration
    seconds.quantization += count * block.quantization
    // what the head sees belongs to quantizing it
    if (prepared.ends.some(seesText)) seconds.quantization += count * block.pass
  }
  if (calibration && options.calibration === undefined) {
    seconds.calibration += await samplingSeconds(weights, config, calibration)
  }
  seconds.quantization += await endsSeconds(prepared)
  if (calibration && settings.method === 'gptvq' && settings.budget !== undefined) {
    const sharing = {
      calibration,
      bpv: settings.budget,
      blocksAlike: alike,
      mostTokens: mostTokens(prepared),
    }
    seconds.sensitivity = await measureSharing(prepared, sharing)
  }
  return seconds
}

async function calibrationPlan(
  prepared: PreparedRun,
  calibration: Calibration | undefined,
): Promise<CalibrationPlan> {
  const { sequences, length } = calibration ?? { sequences: [], length: 1 }
  const isWhole = mostTokens(prepared) >= Math.max(TOKENS_PER_BATCH, length)
  return {
    tokens: sequences.length * length,
    length,
    batches: batchSizes(sequences.length, length).length,
    passes: streamsOf(prepared.settings.order),
    flopsPerSecond: isWhole || !calibration ? Number.POSITIVE_INFINITY : await productSpeed(),
  }
}

/** Embedding and head by GPTVQ; rounding them takes no time to speak of. */
async function endsSeconds({ weights, ends }: PreparedRun): Promise<number> {
  const most = enoughOfLayer()
  let seconds = 0
  for (const { name, rows, cols, bits, method } of ends) {
    if (method === 'rtn') continue
    const count = Math.min(rows, most.rows)
    const weight = matrix(count, cols, await readRows(weights, name, 0, count))
    const linear = { kind: name, name, biasName: undefined, rows, cols }
    const inputs = inputsOf('embedding', cols, undefined)
    const layer = { linear, weight, inputs, settings: endSettings(bits, 0), share: 0, tokens: 0, most }
    const { own, factors } = await measureLayer(layer)
    seconds += own + factors
  }
  return seconds
}

/** The first of the blocks that are alike, and how many those are. */
function blocksAlike({ config, plan }: PreparedRun): Map<number, number> {
  const firsts = new Map<string, number>()
  const counts = new Map<number, number>()
  for (const [index, block] of config.blocks.entries()) {
    const { prefix: _, index: __, ...shape } = block
    const quantized = plan.linears.filter(({ name }) => name.startsWith(block.prefix)).length
    const key = JSON.stringify([shape, quantized]).replaceAll(block.prefix, '')
    const first = firsts.get(key) ?? index
    firsts.set(key, first)
    counts.set(first, (counts.get(first) ?? 0) + 1)
  }
  return counts
}

/** Some of the calibration tokens, embedded: two batches if there are, of a large model of fewer tokens. */
async function fewTokens(
  prepared: PreparedRun,
  { sequences, length }: Calibration,
): Promise<CalibrationStream> {
  const { config, weights } = prepared
  const most = mostTokens(prepared)
  const perBatch = Math.max(1, Math.floor(most / length))
  const tokens = Math.min(length, most)
  const embed = await openEmbedding(weights, config)
  const batchOf = async (some: readonly Int32Array[]) => {
    const hidden = await embed(joinTokens(some.map((sequence) => sequence.subarray(0, tokens))))
    return batchInMemory(some.length, { residual: matrix(some.length * tokens, config.hiddenSize, hidden) })
  }
  const halves = [sequences.slice(0, perBatch), sequences.slice(perBatch, 2 * perBatch)]
  return { length: tokens, batches: await Promise.all(halves.filter((some) => some.length > 0).map(batchOf)) }
}

/** Tokens that go through a block to be timed, at most. */
function mostTokens({ config, plan }: PreparedRun): number {
  const inBlock = plan.linears.reduce((sum, { rows, cols }) => sum + rows * cols, 0) / config.blocks.length
  return Math.max(16, Math.min(TOKENS_PER_BATCH, Math.floor(MOST_WORK / inBlock)))
}

async function samplingSeconds(
  weights: PreparedRun['weights'],
  config: PreparedRun['config'],
  { sequences, length }: Calibration,
): Promise<number> {
  const times: number[] = []
  await sampleSequences(weights, config, {
    count: sequences.length,
    length: Math.min(length, SAMPLED_POSITIONS),
    seed: 1,
    onProgress: () => times.push(performance.now()),
  })
  const steps = Math.max(1, times.length - 1)
  return ((times[steps] - times[0]) / 1000 / steps) * length
}

/** The output and its parts beside each other, and the activations that are kept, the old ones with the new. */
function diskBytes(
  { config, settings }: PreparedRun,
  { unfinished }: QuantizeModelOptions,
  { outputBytes, layerBytes }: StoredSizes,
  tokens: number,
): number {
  const isKept = unfinished !== 'discard' && isCalibrated(settings)
  const kept = isKept
    ? layerBytes + 2 * 4 * tokens * config.hiddenSize * (settings.order.driftCorrection > 0 ? 2 : 1)
    : 0
  return 2 * outputBytes + kept
}
