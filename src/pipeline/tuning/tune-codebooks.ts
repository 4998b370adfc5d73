import { OptionError, ShapeError, UnsupportedError } from '../../errors.js'
import { type Pause, pacer } from '../../event-loop.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { type Head, openHead } from '../../model/decoder/head.js'
import { allLinearLayers } from '../../model/decoder/linears.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import { divergence } from '../../model/passes/divergence.js'
import type { VqLayer } from '../../packing/vq-layer.js'
import { deriveSeed } from '../../random.js'
import type { OnProgress } from '../progress.js'
import { stopwatch } from '../stopwatch.js'
import { resolveTuningOptions, type TuningOptions } from './options.js'
import { divergenceOfBatch, forwardBlocks } from './passes.js'
import type { TuningEpoch, TuningReport } from './report.js'
import { evenly, type Split, shuffledBatches, splitSequences } from './sequences.js'
import { moveStudent, openStudent, type Student } from './student.js'

/** What to tune, and on what. */
export interface TuneCodebooksInput {
  /** The full model: the teacher, and the student's norms, embedding and head. */
  readonly source: WeightSource
  /** The architecture of both. */
  readonly config: DecoderDescription
  /** The quantized layers by the name of their weight; linear layers that are not among them stay full. */
  readonly layers: ReadonlyMap<string, VqLayer>
  /** Token ids, two sequences or more, all of one length. */
  readonly sequences: readonly Int32Array[]
  /** How to tune. */
  readonly options?: TuningOptions
  /** Receives what is being done and how much of it is done. */
  readonly onProgress?: OnProgress
  /** Stops the work with an AbortedError. */
  readonly signal?: AbortSignal
}

/** What {@link tuneCodebooks} made. */
export interface TunedCodebooks {
  /** The layers with their new codebooks, by the name of their weight. */
  readonly layers: Map<string, VqLayer>
  /** What was done. */
  readonly report: TuningReport
}

/**
 * Tunes the codebooks of all layers together, end to end, with the indices fixed: knowledge distillation, that is, Adam
 * on the mean KL(full || quantized) over the positions of the text (GPTVQ, appendix). Codebooks are rounded to their
 * stored form before every pass, so that what is tuned and measured is what would be stored.
 *
 * Part of the sequences is held out; the codebooks of the epoch that does best on them are returned, perhaps those
 * given: on the held-out text the result is never worse than what it started from. Runs on the started engine with one
 * block loaded at a time; memory holds the final hidden states of the full model for all sequences besides.
 *
 * @returns new layers, and what was done; the layers given are left as they are
 * @throws OptionError, TextError, ShapeError naming what does not fit
 * @throws UnsupportedError for a layer without codebooks
 * @throws NumericError when an activation, a gradient or a codebook is NaN or infinite
 * @throws AbortedError when `signal` fires
 */
export async function tuneCodebooks({
  source,
  config,
  layers,
  sequences,
  options = {},
  onProgress,
  signal,
}: TuneCodebooksInput): Promise<TunedCodebooks> {
  const settings = resolveTuningOptions(options)
  assertTunable(config, layers, sequences)
  const split = splitSequences(sequences, settings.heldOut)
  const seconds = stopwatch()
  const head = await openHead(source, config)
  try {
    const student = await openStudent(source, config, layers)
    const work = await openWork(student, head, source, sequences, pacer(signal))
    const { epochs, kept, best } = await runEpochs(work, split, settings, layers, onProgress)
    const counts = { training: split.training.length, heldOut: split.heldOut.length }
    const report = { epochs, kept, sequences: { ...counts, length: work.length }, seconds: seconds() }
    return { layers: best, report }
  } finally {
    head.dispose()
  }
}

/** Throws where the layers or the sequences do not belong to the model. */
function assertTunable(
  config: DecoderDescription,
  layers: ReadonlyMap<string, VqLayer>,
  sequences: readonly Int32Array[],
): void {
  if (layers.size === 0) throw new ShapeError('there are no quantized layers to tune')
  const linears = new Map(allLinearLayers(config).map((linear) => [linear.name, linear]))
  for (const [name, layer] of layers) {
    if (!('layout' in layer) || layer.layout.trellis) {
      throw new UnsupportedError(
        `${name}: has no codebooks to tune; only layers of method gptvq without a trellis have them`,
      )
    }
    const linear = linears.get(name)
    const { rows, cols } = layer.layout
    if (linear === undefined || linear.rows !== rows || linear.cols !== cols) {
      const expected = linear ? `${linear.rows} x ${linear.cols}` : 'no linear layer of this name'
      throw new ShapeError(`${name}: the quantized layer is ${rows} x ${cols}; the model has ${expected}`)
    }
  }
  const longest = Math.max(0, ...sequences.map(({ length }) => length))
  if (longest > config.maxPositions) {
    throw new OptionError(
      'sequences',
      `found one of ${longest} tokens; the model's context is ${config.maxPositions} (max_position_embeddings)`,
    )
  }
}

/** What all epochs share. */
interface Work {
  readonly student: Student
  readonly head: Head
  readonly sequences: readonly Int32Array[]
  readonly length: number
  /** The full model's final hidden states, (sequences * length) x hiddenSize. */
  readonly teacher: Float32Array
  readonly pause: Pause
}

async function openWork(
  student: Student,
  head: Head,
  source: WeightSource,
  sequences: readonly Int32Array[],
  pause: Pause,
): Promise<Work> {
  const { length } = sequences[0]
  const embedded = await student.embed(joinTokens(sequences, length))
  const teacher = await forwardBlocks({ source, config: student.config }, embedded, length, pause)
  return { student, head, sequences, length, teacher, pause }
}

async function runEpochs(
  work: Work,
  split: Split,
  { epochs: most, learningRate, batch, patience, seed }: Required<TuningOptions>,
  initial: ReadonlyMap<string, VqLayer>,
  onProgress: OnProgress | undefined,
): Promise<{ epochs: TuningEpoch[]; kept: number; best: Map<string, VqLayer> }> {
  const { student, head, length, pause } = work
  const steps = most * Math.ceil(split.training.length / batch)
  const epochs = [await measure(work, split, 0)]
  let best = new Map(initial)
  let kept = 0
  let step = 0
  for (let epoch = 1; epoch <= most && epoch - kept <= patience; epoch++) {
    for (const chosen of shuffledBatches(split.training, batch, deriveSeed(seed, epoch))) {
      const name = `tuning codebooks: epoch ${epoch} of ${most}`
      onProgress?.({ step: name, done: step / steps })
      const { tokens, teacher } = gather(work, chosen)
      const { gradients } = await divergenceOfBatch(student, head, tokens, length, teacher, pause)
      moveStudent(student, gradients, learningRate * decay(step++ / steps))
    }
    epochs.push(await measure(work, split, epoch))
    if (epochs[epoch].heldOut < epochs[kept].heldOut) {
      kept = epoch
      best = new Map(student.layers)
    }
  }
  onProgress?.({ step: `tuned codebooks: epoch ${kept} kept`, done: 1 })
  return { epochs, kept, best }
}

/** Half a cosine: from 1 at the first step to 0 after the last one planned. */
function decay(done: number): number {
  return (1 + Math.cos(Math.PI * done)) / 2
}

async function measure(work: Work, { training, heldOut }: Split, epoch: number): Promise<TuningEpoch> {
  return {
    epoch,
    training: await meanDivergence(work, evenly(training, heldOut.length)),
    heldOut: await meanDivergence(work, heldOut),
  }
}

async function meanDivergence(work: Work, chosen: readonly number[]): Promise<number> {
  const { student, head, length, pause } = work
  const { tokens, teacher } = gather(work, chosen)
  const hidden = await forwardBlocks(student, await student.embed(tokens), length, pause)
  return (await divergence(head, teacher, hidden)) / tokens.length
}

/** The tokens of some sequences, and the teacher's final hidden states for them. */
function gather(
  { sequences, length, teacher: all }: Work,
  chosen: readonly number[],
): { tokens: Int32Array; teacher: Float32Array } {
  const tokens = joinTokens(
    chosen.map((i) => sequences[i]),
    length,
  )
  const values = all.length / sequences.length
  const teacher = new Float32Array(chosen.length * values)
  for (const [to, i] of chosen.entries()) {
    teacher.set(all.subarray(i * values, (i + 1) * values), to * values)
  }
  return { tokens, teacher }
}

function joinTokens(sequences: readonly Int32Array[], length: number): Int32Array {
  const tokens = new Int32Array(sequences.length * length)
  for (const [i, sequence] of sequences.entries()) tokens.set(sequence, i * length)
  return tokens
}
