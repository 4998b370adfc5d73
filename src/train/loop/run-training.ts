import { NumericError } from '../../common/errors.js'
import type { Pause } from '../../common/event-loop.js'
import { deriveSeed } from '../../common/random.js'
import type { Head } from '../../model/decoder/head.js'
import type { PartProgress } from '../../pipeline/progress.js'
import { stopwatch } from '../../pipeline/stopwatch.js'
import { addGradients, type Batch, lossOfBatch } from './passes.js'
import type { TrainingCurve, TrainingLoss, TrainingPoint } from './report.js'
import { rateOf } from './schedule.js'
import { evenly, type Split, shuffledBatches } from './sequences.js'
import {
  clipGradients,
  countStateBytes,
  moveStudent,
  noGradients,
  restoreSnapshot,
  type Snapshot,
  type Student,
  takeSnapshot,
} from './student.js'

/** How the loop goes; see `TrainingOptions`. */
export interface LoopSettings {
  readonly epochs: number
  readonly batch: number
  readonly accumulation: number
  readonly learningRate: number
  readonly warmup: number
  readonly clip: number
  readonly measureEvery: number | undefined
  readonly patience: number
  readonly rechooseEvery: number | undefined
  readonly distillation: number
  readonly hiddenWeight: number
  readonly seed: number
}

/** What is learned from, for all sequences: arrays are (sequences * length) x hiddenSize. */
export interface Teacher {
  readonly head: Head
  /** Its final hidden states. */
  readonly hidden: Float32Array
  /** What it has where the student's blocks end, by these; empty where hidden states do not count. */
  readonly afterBlock: readonly Float32Array[]
}

/** What is trained, and on what. */
export interface TrainingWork {
  readonly student: Student
  readonly head: Head
  readonly sequences: readonly Int32Array[]
  readonly split: Split
  readonly teacher?: Teacher
  readonly pause: Pause
  readonly onProgress: PartProgress
}

/** Where a training stands, all it needs to go on; Adam's moments are in the student. */
export interface LoopState {
  step: number
  readonly points: TrainingPoint[]
  kept: number
  best: Snapshot
}

/**
 * Trains by AdamW until the epochs are over or the held-out text has not gained for a while, and leaves the student as it
 * was where it did best on the held-out text, perhaps before the first step.
 *
 * @param from where to go on; default: at the start
 * @param onMeasured is given the state after each measurement; the next step waits for it
 * @throws NumericError when numbers overflow, of which no state is kept: nothing comes of further steps
 */
export async function runTraining(
  work: TrainingWork,
  settings: LoopSettings,
  from?: LoopState,
  onMeasured: (state: LoopState) => Promise<void> = async () => {},
): Promise<TrainingCurve> {
  const { student, split, onProgress } = work
  const { batch, accumulation, epochs, patience, seed } = settings
  const perEpoch = Math.ceil(split.training.length / (batch * accumulation))
  const total = epochs * perEpoch
  const { measureEvery = perEpoch, rechooseEvery = perEpoch } = settings
  const counts = { total, warmup: Math.round(settings.warmup * total) }
  const state = from ?? (await startLoop(work, settings))
  const sinceLast: TrainingLoss[] = []
  let seconds = 0
  let tokens = 0
  while (state.step < total && state.points.length - 1 - state.kept < patience) {
    const { step } = state
    onProgress(`training: step ${step + 1} of ${total}`, step / total)
    const lap = stopwatch()
    const epoch = Math.floor(step / perEpoch)
    const chosen = shuffledBatches(split.training, batch * accumulation, deriveSeed(seed, epoch + 1))
    const batchOfStep = chosen[step % perEpoch]
    const doNext = () => doStep(work, settings, batchOfStep, rateOf(step, counts))
    sinceLast.push(await orRanAway(step, doNext))
    state.step++
    if (state.step % rechooseEvery === 0) rechooseAll(student)
    seconds += lap()
    tokens += batchOfStep.length * work.sequences[0].length
    if (state.step % measureEvery !== 0 && state.step < total) continue
    const point = {
      step: state.step,
      ...(await orRanAway(state.step, () => measure(work, settings))),
      batches: meanOf(sinceLast.splice(0)),
    }
    state.points.push(point)
    if (point.heldOut.loss < state.points[state.kept].heldOut.loss) {
      state.kept = state.points.length - 1
      state.best = takeSnapshot(student)
    }
    await onMeasured(state)
  }
  restoreSnapshot(student, state.best)
  onProgress(`trained: step ${state.points[state.kept].step} kept`, 1)
  const { length } = work.sequences[0]
  return {
    points: state.points,
    kept: state.kept,
    sequences: { training: split.training.length, heldOut: split.heldOut.length, length },
    tokensPerSecond: seconds > 0 ? tokens / seconds : 0,
    stateBytes: countStateBytes(student),
  }
}

async function startLoop(work: TrainingWork, settings: LoopSettings): Promise<LoopState> {
  const first = { step: 0, ...(await measure(work, settings)), batches: null }
  return { step: 0, points: [first], kept: 0, best: takeSnapshot(work.student) }
}

/** Numbers that overflow behind a step do so because of it, whatever the error takes for the cause. */
async function orRanAway<T>(step: number, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (step === 0 || !(error instanceof NumericError)) throw error
    throw new NumericError(
      `training ran away by step ${step}, train with a lower learningRate (${error.message})`,
    )
  }
}

/** One step of the optimizer, on some sequences in parts of `batch`. */
async function doStep(
  work: TrainingWork,
  settings: LoopSettings,
  chosen: readonly number[],
  rate: number,
): Promise<TrainingLoss> {
  const { batch, clip, learningRate } = settings
  const { student, head, pause } = work
  const gradients = noGradients(student)
  const losses: TrainingLoss[] = []
  for (let from = 0; from < chosen.length; from += batch) {
    const part = chosen.slice(from, from + batch)
    const share = part.length / chosen.length
    const found = await addGradients(student, head, gather(work, part, settings), gradients, pause, share)
    losses.push(scaled(found, share))
  }
  clipGradients(gradients, clip)
  moveStudent(student, gradients, learningRate * rate)
  return sumOf(losses)
}

function rechooseAll({ trained }: Student): void {
  for (const { choices } of trained.values()) choices?.rechoose()
}

async function measure(
  work: TrainingWork,
  settings: LoopSettings,
): Promise<Pick<TrainingPoint, 'training' | 'heldOut'>> {
  const { batch } = settings
  const { student, head, split, pause } = work
  const meanOver = async (chosen: readonly number[]) => {
    const losses: TrainingLoss[] = []
    for (let from = 0; from < chosen.length; from += batch) {
      const part = chosen.slice(from, from + batch)
      const found = await lossOfBatch(student, head, gather(work, part, settings), pause)
      losses.push(scaled(found, part.length / chosen.length))
    }
    return sumOf(losses)
  }
  const training = await meanOver(evenly(split.training, split.heldOut.length))
  const heldOut = await meanOver(split.heldOut)
  for (const { loss } of [training, heldOut]) {
    if (!Number.isFinite(loss)) throw new NumericError(`the loss is ${loss}; expected a finite number`)
  }
  return { training, heldOut }
}

/** The tokens of some sequences, and the teacher's hidden states for them. */
function gather(
  { sequences, teacher }: TrainingWork,
  chosen: readonly number[],
  { distillation, hiddenWeight: weight }: LoopSettings,
): Batch {
  const { length } = sequences[0]
  const tokens = joinTokens(chosen.map((i) => sequences[i]))
  if (teacher === undefined) return { tokens, length, distillation }
  const { head, afterBlock } = teacher
  const of = (states: Float32Array) => sequencesOf(states, chosen, length * head.hiddenSize)
  return {
    ...{ tokens, length, distillation, teacher: { head, hidden: of(teacher.hidden) } },
    ...(weight > 0 && { hidden: { afterBlock: afterBlock.map(of), weight } }),
  }
}

/** The states of some sequences, of `size` values each. */
function sequencesOf(states: Float32Array, chosen: readonly number[], size: number): Float32Array {
  const own = new Float32Array(chosen.length * size)
  for (const [to, i] of chosen.entries()) own.set(states.subarray(i * size, (i + 1) * size), to * size)
  return own
}

/** Sequences of one length, one behind the other. */
export function joinTokens(sequences: readonly Int32Array[]): Int32Array {
  const tokens = new Int32Array(sequences.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const sequence of sequences) {
    tokens.set(sequence, at)
    at += sequence.length
  }
  return tokens
}

function scaled({ loss, crossEntropy, divergence, hidden }: TrainingLoss, by: number): TrainingLoss {
  return {
    loss: loss * by,
    crossEntropy: crossEntropy * by,
    divergence: divergence * by,
    hidden: hidden * by,
  }
}

function sumOf(losses: readonly TrainingLoss[]): TrainingLoss {
  return losses.reduce((sum, one) => ({
    loss: sum.loss + one.loss,
    crossEntropy: sum.crossEntropy + one.crossEntropy,
    divergence: sum.divergence + one.divergence,
    hidden: sum.hidden + one.hidden,
  }))
}

function meanOf(losses: readonly TrainingLoss[]): TrainingLoss {
  return scaled(sumOf(losses), 1 / losses.length)
}
