import { basename, join } from 'node:path'
import { type Checkpoint, openCheckpoint } from '../checkpoint/checkpoint.js'
import { fetchOptionsOf } from '../checkpoint/model-source.js'
import { checkpointWeights } from '../checkpoint/model-weights.js'
import { refuseUnknown } from '../common/check-option.js'
import { CheckpointError, orNothingWritten } from '../common/errors.js'
import { setThreads } from '../kernels/kernels.js'
import { allLinearLayers } from '../model/decoder/linears.js'
import { describeDecoder } from '../model/families/index.js'
import { startEngine } from '../model/ops/engine.js'
import { packedBytes } from '../packing/bits-per-value.js'
import { pack, type QuantizedLayer } from '../packing/quantized-layer.js'
import { refusePipe } from '../pipeline/calibrate/text-file.js'
import { requireDistinctFolders } from '../pipeline/folders/distinct-folders.js'
import { type OpenModel, openModel } from '../pipeline/folders/open-model.js'
import { createQuantizedOutput } from '../pipeline/folders/output.js'
import { requireUsableOutput } from '../pipeline/folders/usable-output.js'
import { requireWholeModel } from '../pipeline/folders/whole-model.js'
import { partOf } from '../pipeline/progress.js'
import { digestOfWeights, type RunRecord, runRecord } from '../pipeline/quantize/run-record.js'
import { stopwatch } from '../pipeline/stopwatch.js'
import { comparedBlocks } from './compared-blocks.js'
import type { TrainingCurve } from './loop/report.js'
import { removeState } from './loop/state-file.js'
import { orStateKept, requireStatePlace } from './loop/state-place.js'
import { type FoundModel, prepareText, requireOneVocabulary, type TrainingText } from './prepare.js'
import { asStarted, digestOfStart, quantizedStart, type StartLayers, storedStart } from './start-layers.js'
import {
  resolveTrainModel,
  settleTraining,
  type TrainingMethod,
  type TrainModelOptions,
  type TrainModelSettings,
  trainModelOptionNames,
} from './train-model-options.js'
import { trainStudent } from './train-student.js'
import { quantizedTrainables, requireThin } from './trainables.js'
import type { Trainable } from './weights/trainable.js'

/** What {@link trainModel} did. */
export interface TrainModelReport {
  /** The full model, as given. */
  readonly model: string
  /** The folder that was written. */
  readonly output: string
  /** What was trained. */
  readonly method: TrainingMethod
  /** The options in force, those of the start among them. */
  readonly settings: Readonly<Record<string, unknown>>
  /** Of all quantized layers together. */
  readonly bitsPerValue: number
  /** The measurements, and which of them was kept. */
  readonly curve: TrainingCurve
  /** What a person should know of the text. */
  readonly notes: readonly string[]
  /** Bytes of all files written. */
  readonly outputBytes: number
  /** Time that everything took. */
  readonly seconds: number
}

/** Share of the work that quantizing the start takes; for progress only. */
const START_SHARE = 0.1

/**
 * Trains a quantized model end to end: quantization-aware training of scalar layers (all of each weight, or factors of low
 * rank), or of the codebooks and scales of vectors. It starts from a model that was quantized after training, so that on
 * the held-out text the result is never worse than that. Whatever is trained is rounded to its stored form before every
 * pass, and activations where the start has them rounded. Norms of the blocks are trained along; embedding, head, final norm, biases and routers stay.
 *
 * In memory: what is trained with its gradients and moments ({@link TrainingCurve.stateBytes}), one block at a time as
 * floats, the inputs of all blocks for one batch, and the final hidden states of the teacher for all sequences.
 *
 * @throws OptionError, TextError, CheckpointError, UnsupportedError, NumericError, each naming what is wrong; AbortedError
 *   when `signal` fires. On any of them nothing is written but `checkpoint`
 */
export async function trainModel(options: TrainModelOptions): Promise<TrainModelReport> {
  refuseUnknown(options, trainModelOptionNames)
  const settings = resolveTrainModel(options)
  if (options.threads !== undefined) setThreads(options.threads)
  return orNothingWritten(() => train(options, settings))
}

async function train(options: TrainModelOptions, given: TrainModelSettings): Promise<TrainModelReport> {
  const seconds = stopwatch()
  const { model, output } = options
  await requirePlaces(options)
  const checkpoint = await openCheckpoint(model, fetchOptionsOf(options))
  let other: OpenModel | undefined
  try {
    const full = fullModel(checkpoint, model)
    if (options.teacher !== undefined) {
      other = await openModel(options.teacher, fetchOptionsOf(options))
      requireOneVocabulary(other, full)
    }
    const needsTeacher = given.distillation > 0 || given.hiddenWeight > 0
    const teacher = other ?? (needsTeacher ? full : undefined)
    const compared = given.hiddenWeight > 0 ? comparedBlocks(other ?? full, full, undefined) : []
    await startEngine(options.engine)
    const text = await prepareText(options, full, given.heldOut)
    const made = await trainingRecord(checkpoint, options, other)
    const start = await startOf(options, given, full, text, made.weights)
    const settings = settleTraining(given, options.start, trainedBits(full, start))
    const student = asStarted(full, start)
    const trained = await quantizedTrainables(checkpoint, student, start, settings)
    const origins = async () => ({
      ...{ model: made.weights, start: digestOfStart(start) },
      teacher: teacher && (made.teacher ?? made.weights),
    })
    const work = { student, trained, teacher, compared, text, settings, origins, progressFrom: START_SHARE }
    const curve = await trainStudent(work, options)
    const layers = trainedLayers(start, trained, curve)
    const stated = { ...start.settings, training: settings }
    const run = { ...made, ...(start.weights !== undefined && { start: start.weights }) }
    const outputBytes = await orStateKept(options.checkpoint, () =>
      write(checkpoint, options, { ...start, settings: stated }, layers, trained, run),
    )
    const { method } = settings
    const bitsPerValue = bitsOf(layers)
    return {
      ...{ model, output, method, settings: stated, bitsPerValue, curve, outputBytes },
      notes: [...checkpoint.notes, ...start.notes, ...text.notes],
      seconds: seconds(),
    }
  } finally {
    await other?.close()
    await checkpoint.close()
  }
}

/** Finds out before any work that a result or a state could not be written. */
async function requirePlaces(options: TrainModelOptions): Promise<void> {
  const { model, start, teacher, text, output, checkpoint } = options
  await requireDistinctFolders(model, output)
  if (teacher !== undefined) await requireDistinctFolders(teacher, output)
  await requireUsableOutput(output, options)
  if (typeof text === 'string') await refusePipe(text)
  const apart = { 'the model': model, 'the start': start, 'the teacher': teacher, 'the output': output }
  if (checkpoint !== undefined) await requireStatePlace(checkpoint, apart)
}

function fullModel(checkpoint: Checkpoint, folder: string): FoundModel {
  const source = checkpointWeights(checkpoint)
  if (source.quantization !== undefined) {
    throw new CheckpointError(
      `${folder}: is quantized already (method ${source.quantization.method}); give the model it was made from as model, ` +
        'and this folder as start',
    )
  }
  const config = describeDecoder(checkpoint.config, join(folder, 'config.json'))
  requireWholeModel(checkpoint, config, undefined)
  return { folder, source, config }
}

async function startOf(
  { model, start: folder, engine, onProgress, signal }: TrainModelOptions,
  { method, rank, bits, groupSize, startMethod, seed }: TrainModelSettings,
  full: FoundModel,
  { sequences, split }: TrainingText,
  weights: string,
): Promise<StartLayers> {
  if (folder !== undefined) {
    const start = await storedStart(folder, full, weights, signal)
    requireThin({ method, rank }, full.config, (name) => start.layers.has(name))
    return start
  }
  requireThin({ method, rank }, full.config, () => true)
  const calibration = { sequences: split.training.map((i) => sequences[i]) }
  const common = { model, bits, ...(engine && { engine }), ...(signal && { signal }) }
  const part = partOf(onProgress, 0, START_SHARE)
  if (method === 'codebooks') return quantizedStart({ ...common, calibration, seed }, part)
  const scalar = { ...common, groupSize, method: startMethod }
  return quantizedStart(startMethod === 'rtn' ? scalar : { ...scalar, calibration, seed }, part)
}

/** Bits of the layers that are trained. */
function trainedBits({ config }: FoundModel, { layers }: StartLayers): number[] {
  return allLinearLayers(config).flatMap(({ name }) => {
    const layer = layers.get(name)
    return layer === undefined || 'layout' in layer ? [] : [layer.bits]
  })
}

/** The layers as they are written: to the bit those of the start where that did best. */
function trainedLayers(
  { layers }: StartLayers,
  trained: ReadonlyMap<string, Trainable>,
  { kept }: TrainingCurve,
): Map<string, QuantizedLayer> {
  const now = (name: string, first: QuantizedLayer) => trained.get(name)?.layer?.() ?? first
  return new Map(Array.from(layers, ([name, first]) => [name, kept === 0 ? first : now(name, first)]))
}

function bitsOf(layers: ReadonlyMap<string, QuantizedLayer>): number {
  let bytes = 0
  let values = 0
  for (const layer of layers.values()) {
    bytes += packedBytes(pack(layer))
    const { rows, cols } = 'layout' in layer ? layer.layout : layer
    values += rows * cols
  }
  return (8 * bytes) / values
}

/** Of other models that were given it keeps the names, without their folders. */
async function trainingRecord(
  model: Checkpoint,
  options: TrainModelOptions,
  other: OpenModel | undefined,
): Promise<RunRecord> {
  const { text, start, teacher, engine, signal, ...others } = options
  const given = {
    ...others,
    calibration: text,
    ...(start !== undefined && { start: basename(start) }),
    ...(teacher !== undefined && { teacher: basename(teacher) }),
  }
  const means = { engine: await startEngine(engine), products: 'wasm', command: 'train' } as const
  const record = await runRecord(model, given, means, signal)
  return other === undefined
    ? record
    : { ...record, teacher: await digestOfWeights(other.checkpoint, signal) }
}

/** @returns the bytes of all files */
async function write(
  model: Checkpoint,
  options: TrainModelOptions,
  { method, settings: stated, activations, plain }: StartLayers,
  layers: ReadonlyMap<string, QuantizedLayer>,
  trained: ReadonlyMap<string, Trainable>,
  run: RunRecord,
): Promise<number> {
  const { output, onProgress, checkpoint } = options
  const replaced = new Set([...layers.keys(), ...trained.keys()])
  const changed = { names: new Set(plain.keys()), floats: async (name: string) => plain.get(name)! }
  const made = { method, stated, run, changed }
  const writer = await createQuantizedOutput(output, model, replaced, made, options)
  try {
    for (const [name, layer] of layers) {
      await writer.addLayer(name.slice(0, -'.weight'.length), layer, { relativeError: null, drift: null })
    }
    for (const [name, trainable] of trained) {
      if (!trainable.layer) await writer.addTensor(name, trainable.values())
    }
    onProgress?.({ step: `writing ${output}`, done: 1 })
    const { bytes } = await writer.finish(activations)
    if (checkpoint !== undefined) await removeState(checkpoint)
    return bytes
  } finally {
    await writer.discard()
  }
}
