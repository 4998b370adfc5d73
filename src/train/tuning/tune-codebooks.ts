import { type OptionNames, refuseUnknown, requireFields } from '../../common/check-option.js'
import { OptionError, ShapeError, UnsupportedError } from '../../common/errors.js'
import { pacer } from '../../common/event-loop.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { openHead } from '../../model/decoder/head.js'
import { allLinearLayers } from '../../model/decoder/linears.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import { isTrellis, type VqLayer } from '../../packing/vq-layer.js'
import { type OnProgress, partOf } from '../../pipeline/progress.js'
import { stopwatch } from '../../pipeline/stopwatch.js'
import { forwardBlocks } from '../loop/passes.js'
import { joinTokens, runTraining } from '../loop/run-training.js'
import { splitSequences } from '../loop/sequences.js'
import { openStudent } from '../loop/student.js'
import { trainableCodebooks } from '../weights/codebooks.js'
import type { Trainable } from '../weights/trainable.js'
import { trainableTrellis } from '../weights/trellis.js'
import { resolveTuningOptions, type TuningOptions } from './options.js'
import type { TuningReport } from './report.js'

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

const inputNames: OptionNames<TuneCodebooksInput> = {
  source: true,
  config: true,
  layers: true,
  sequences: true,
  options: true,
  onProgress: true,
  signal: true,
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
 * on the mean KL(full || quantized) over the positions of the text (GPTVQ, appendix). Of a layer with a trellis, whose
 * codebook is a constant, the scales are tuned. All is rounded to its stored form before every pass, so that what is tuned
 * and measured is what would be stored.
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
export async function tuneCodebooks(input: TuneCodebooksInput): Promise<TunedCodebooks> {
  requireFields(input, 'what to tune, and on what', ['source', 'config', 'layers', 'sequences'])
  refuseUnknown(input, inputNames)
  const { source, config, layers, sequences, options = {}, onProgress, signal } = input
  const settings = resolveTuningOptions(options)
  assertTunable(config, layers, sequences)
  const split = splitSequences(sequences, settings.heldOut)
  const seconds = stopwatch()
  const head = await openHead(source, config)
  try {
    const pause = pacer(signal)
    const trained = new Map(Array.from(layers, ([name, layer]) => [name, trainableVectors(layer)]))
    const student = await openStudent(source, config, trained)
    const { length } = sequences[0]
    const embedded = await student.embed(joinTokens(sequences))
    const hidden = await forwardBlocks({ source, config }, embedded, length, pause)
    const part = partOf(onProgress, 0, 1)
    const teacher = { head, hidden, afterBlock: [] }
    const work = { student, head, sequences, split, teacher, pause, onProgress: part }
    const curve = await runTraining(work, { ...tuningLoop, ...settings })
    const epochs = curve.points.map(({ training, heldOut }, epoch) => ({
      epoch,
      training: training.divergence,
      heldOut: heldOut.divergence,
    }))
    const { kept } = curve
    const tuned = kept === 0 ? layers : mapLayers(trained)
    const report = { epochs, kept, sequences: curve.sequences, seconds: seconds() }
    return { layers: new Map(tuned), report }
  } finally {
    head.dispose()
  }
}

/** What of the loop tuning has no options for. */
const tuningLoop = {
  accumulation: 1,
  warmup: 0,
  clip: Number.POSITIVE_INFINITY,
  measureEvery: undefined,
  rechooseEvery: undefined,
  distillation: 1,
  hiddenWeight: 0,
}

function trainableVectors(layer: VqLayer): Trainable {
  return isTrellis(layer.layout)
    ? trainableTrellis(layer, { indexRate: 0 })
    : trainableCodebooks(layer, { indexRate: 0 })
}

function mapLayers(trained: ReadonlyMap<string, Trainable>): Map<string, VqLayer> {
  return new Map(Array.from(trained, ([name, { layer }]) => [name, layer!() as VqLayer]))
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
    if (!('layout' in layer)) {
      throw new UnsupportedError(
        `${name}: has no codebooks to tune; only layers of method gptvq have them. Train it by trainModel, method 'qat'`,
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
