import { type Checkpoint, openCheckpoint } from '../checkpoint/checkpoint.js'
import { encodeFloats } from '../checkpoint/dtype.js'
import { fetchOptionsOf, fileIn } from '../checkpoint/model-source.js'
import { checkpointWeights } from '../checkpoint/model-weights.js'
import { createCheckpointWriter, requireShardBytes } from '../checkpoint/output/checkpoint-writer.js'
import { type OptionNames, refuseUnknown, requirePath } from '../common/check-option.js'
import { CheckpointError, OptionError, orNothingWritten } from '../common/errors.js'
import { setThreads } from '../kernels/kernels.js'
import { allLinearLayers } from '../model/decoder/linears.js'
import { describeDecoder } from '../model/families/index.js'
import { startEngine } from '../model/ops/engine.js'
import { requireDistinctFolders } from '../pipeline/folders/distinct-folders.js'
import { CARD_FILE, distilledCard, sourceCard } from '../pipeline/folders/model-card.js'
import { openModel } from '../pipeline/folders/open-model.js'
import {
  addConfig,
  assertFiniteBytes,
  copyFiles,
  copyTensors,
  type OutputOptions,
} from '../pipeline/folders/output.js'
import { requireUsableOutput } from '../pipeline/folders/usable-output.js'
import { requireWholeModel } from '../pipeline/folders/whole-model.js'
import { digestOfWeights } from '../pipeline/quantize/run-record.js'
import { stopwatch } from '../pipeline/stopwatch.js'
import { comparedBlocks } from './compared-blocks.js'
import { keepBlocks } from './keep-blocks.js'
import type { TrainingCurve } from './loop/report.js'
import { removeState } from './loop/state-file.js'
import { orStateKept, requireStatePlace } from './loop/state-place.js'
import { resolveTraining, type TrainingOptions, trainingOptionNames } from './options.js'
import { type FoundModel, prepareText, requireOneVocabulary } from './prepare.js'
import { trainStudent } from './train-student.js'
import { dtypeOf, normNames } from './trainables.js'
import { trainablePlain } from './weights/plain.js'
import type { Trainable } from './weights/trainable.js'

/** What to distill, on what, and where to. */
export interface DistillModelOptions extends TrainingOptions, OutputOptions {
  /** The model to learn from, plain or quantized. */
  teacher: string
  /** The plain model that learns, of the same vocabulary. Instead of it: `keepBlocks`. */
  student?: string
  /** Blocks of the teacher, which must be plain, that the student is made of at first, counted from 0; e.g. `[0, 2]`. */
  keepBlocks?: readonly number[]
  /** The plain folder to write. */
  output: string
}

const optionNames: OptionNames<DistillModelOptions> = {
  ...trainingOptionNames,
  teacher: true,
  student: true,
  keepBlocks: true,
  output: true,
  force: 'switch',
  maxShardBytes: true,
}

/** What {@link distillModel} did. */
export interface DistillModelReport {
  /** The teacher, as given. */
  readonly teacher: string
  /** The student's folder as given, or the blocks of the teacher that it was made of. */
  readonly student: string | readonly number[]
  /** The folder that was written. */
  readonly output: string
  /** Blocks of the student. */
  readonly blocks: number
  /** The options in force. */
  readonly settings: Readonly<Record<string, unknown>>
  /** The measurements, and which of them was kept. */
  readonly curve: TrainingCurve
  /** What a person should know of the text. */
  readonly notes: readonly string[]
  /** Bytes of all files written. */
  readonly outputBytes: number
  /** Time that everything took. */
  readonly seconds: number
}

/** How far a weight moves per step at most, as a share of the root mean square of its tensor. */
const LEARNING_RATE = 0.005

/**
 * Teaches a small model what a larger one predicts: AdamW on `KL(teacher || student)`, mixed with the cross entropy of the
 * next token where `distillation` is below 1. Linear layers and norms of the student's blocks are trained; embedding, head,
 * final norm and biases stay. What is written is a plain model, to be quantized as any other. The learning rate (default
 * 0.005) is counted in shares of the root mean square of each tensor.
 *
 * In memory: all that is trained with its gradients and moments, and what `trainModel` states.
 *
 * @throws OptionError, TextError, CheckpointError (also for another vocabulary), UnsupportedError, NumericError, each
 *   naming what is wrong; AbortedError when `signal` fires. On any of them nothing is written but `checkpoint`
 */
export async function distillModel(options: DistillModelOptions): Promise<DistillModelReport> {
  refuseUnknown(options, optionNames)
  if (options.maxShardBytes !== undefined) requireShardBytes(options.maxShardBytes)
  for (const option of ['teacher', 'output'] as const) requirePath(option, options[option])
  const { student, keepBlocks: kept } = options
  if ((student === undefined) === (kept === undefined)) {
    throw new OptionError(
      'student',
      `found ${student === undefined ? 'neither student nor keepBlocks' : 'student and keepBlocks'}; expected one: a ` +
        'folder to train, or the blocks of the teacher to make one of',
    )
  }
  if (student !== undefined) requirePath('student', student)
  const settings = resolveTraining(options, LEARNING_RATE)
  if (options.threads !== undefined) setThreads(options.threads)
  return orNothingWritten(() => distill(options, settings))
}

async function distill(
  options: DistillModelOptions,
  settings: ReturnType<typeof resolveTraining>,
): Promise<DistillModelReport> {
  const seconds = stopwatch()
  const { teacher: teacherFolder, output, checkpoint: state } = options
  await requirePlaces(options)
  const teacher = await openModel(teacherFolder, fetchOptionsOf(options))
  const opened =
    options.student === undefined ? undefined : await openCheckpoint(options.student, fetchOptionsOf(options))
  try {
    const checkpoint = opened ?? cutTeacher(teacher, options.keepBlocks ?? [])
    const student = plainModel(checkpoint)
    requireOneVocabulary(teacher, student)
    const compared = settings.hiddenWeight > 0 ? comparedBlocks(teacher, student, options.keepBlocks) : []
    await startEngine(options.engine)
    const text = await prepareText(options, student, settings.heldOut)
    const trained = await plainTrainables(checkpoint, student)
    const origins = async () => ({
      model: await digestOfWeights(checkpoint, options.signal),
      teacher: await digestOfWeights(teacher.checkpoint, options.signal),
    })
    const work = { student, trained, teacher, compared, text, settings, origins, progressFrom: 0 }
    const curve = await trainStudent(work, options)
    const outputBytes = await orStateKept(state, () => writeStudent(checkpoint, options, trained))
    if (state !== undefined) await removeState(state)
    return {
      teacher: teacherFolder,
      student: options.student ?? options.keepBlocks ?? [],
      ...{
        output,
        blocks: student.config.blocks.length,
        settings,
        curve,
        notes: [...checkpoint.notes, ...text.notes],
        outputBytes,
      },
      seconds: seconds(),
    }
  } finally {
    await opened?.close()
    await teacher.close()
  }
}

/** Finds out before any work that a result or a state could not be written. */
async function requirePlaces(options: DistillModelOptions): Promise<void> {
  const { teacher, student, output, checkpoint } = options
  await requireDistinctFolders(teacher, output)
  if (student !== undefined) await requireDistinctFolders(student, output)
  await requireUsableOutput(output, options)
  const apart = { 'the teacher': teacher, 'the student': student, 'the output': output }
  if (checkpoint !== undefined) await requireStatePlace(checkpoint, apart)
}

function cutTeacher(
  { checkpoint, config }: Awaited<ReturnType<typeof openModel>>,
  kept: readonly number[],
): Checkpoint {
  requirePlain(checkpoint, 'Keep blocks of the model that it was made from, or give a student')
  return keepBlocks(checkpoint, config, kept)
}

function plainModel(checkpoint: Checkpoint): FoundModel {
  requirePlain(
    checkpoint,
    'Distill the model that it was made from and quantize the result, or use trainModel',
  )
  const config = describeDecoder(checkpoint.config, fileIn(checkpoint.files, 'config.json'))
  requireWholeModel(checkpoint, config, undefined)
  return { folder: checkpoint.folder, source: checkpointWeights(checkpoint), config }
}

function requirePlain(checkpoint: Checkpoint, instead: string): void {
  const { quantization } = checkpointWeights(checkpoint)
  if (quantization === undefined) return
  throw new CheckpointError(`${checkpoint.folder}: is quantized (method ${quantization.method}). ${instead}`)
}

async function plainTrainables(
  checkpoint: Checkpoint,
  { source, config }: FoundModel,
): Promise<Map<string, Trainable>> {
  const trained = new Map<string, Trainable>()
  for (const { name } of allLinearLayers(config)) {
    trained.set(name, trainablePlain(await source.floats(name), dtypeOf(checkpoint, name), 1, true))
  }
  for (const name of normNames(config)) {
    trained.set(name, trainablePlain(await source.floats(name), dtypeOf(checkpoint, name), 1))
  }
  return trained
}

/** @returns the bytes of all files */
async function writeStudent(
  checkpoint: Checkpoint,
  { output, force, maxShardBytes, onProgress, signal }: DistillModelOptions,
  trained: ReadonlyMap<string, Trainable>,
): Promise<number> {
  const writer = await createCheckpointWriter(output, { force, maxShardBytes })
  try {
    await copyTensors(checkpoint, writer, (name) => !trained.has(name), signal)
    for (const [name, trainable] of trained) {
      const { shape } = checkpoint.tensors.get(name)!
      const dtype = dtypeOf(checkpoint, name)
      const bytes = encodeFloats(dtype, trainable.values())
      assertFiniteBytes(name, dtype, shape, bytes)
      await writer.add(name, dtype, shape, bytes)
    }
    await copyFiles(checkpoint, writer)
    await writer.addFile(CARD_FILE, distilledCard(await sourceCard(checkpoint)))
    await addConfig(writer, checkpoint, undefined)
    onProgress?.({ step: `writing ${output}`, done: 1 })
    return (await writer.finish()).bytes
  } finally {
    await writer.discard()
  }
}
