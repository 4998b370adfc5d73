import { requireWhole } from '../../common/check-option.js'
import { TextError } from '../../common/errors.js'
import { deriveSeed } from '../../common/random.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import { requireBos, sampleSequences } from '../../model/passes/sampling.js'
import type { VqLayer } from '../../packing/vq-layer.js'
import type { Calibration } from '../../pipeline/calibrate/calibration.js'
import type { PartProgress } from '../../pipeline/progress.js'
import type { TuningReport } from './report.js'
import { tuneCodebooks } from './tune-codebooks.js'

/** Whether, and on what, the codebooks of all layers are tuned together once all are quantized. */
export interface ModelTuningOptions {
  /** Times at most that the tuning text is gone through, default 0: no tuning. See `tuneCodebooks`. */
  tuningEpochs?: number
  /**
   * Sequences of tuning text that the model itself writes, beside the calibration sequences; default 256. With few
   * sequences in all the codebooks learn the text by heart.
   */
  tuningSequences?: number
}

/** Checks the options and fills in the defaults. @throws OptionError */
export function resolveModelTuning(options: ModelTuningOptions): Required<ModelTuningOptions> {
  const { tuningEpochs = 0, tuningSequences = 256 } = options
  requireWhole('tuningEpochs', tuningEpochs, 0)
  requireWhole('tuningSequences', tuningSequences, 0)
  return { tuningEpochs, tuningSequences }
}

/**
 * Finds before the blocks are quantized what would stop tuning after them.
 *
 * @throws TextError for fewer than two sequences, UnsupportedError for a model that cannot write any
 */
export function assertTunableOn(
  config: DecoderDescription,
  { sequences }: Calibration,
  { tuningSequences }: Required<ModelTuningOptions>,
): void {
  const all = sequences.length + tuningSequences
  if (all < 2) {
    throw new TextError(
      `tuning got ${all} sequence of text; expected at least two, one is held out. Give more calibration text, or ` +
        'let the model write some (tuningSequences)',
    )
  }
  if (tuningSequences > 0) {
    requireBos(config, 'Set tuningSequences to 0: then the calibration sequences are what is tuned on')
  }
}

export interface TuneModelTask {
  readonly weights: WeightSource
  readonly config: DecoderDescription
  readonly layers: ReadonlyMap<string, VqLayer>
  readonly calibration: Calibration
  readonly seed: number
  readonly onProgress: PartProgress
  readonly signal: AbortSignal | undefined
}

/** Share of the work that writing the text takes; for progress only. */
const SAMPLING_SHARE = 0.2

/** Tunes the codebooks on the calibration sequences and on as many again as the options ask the model to write. */
export async function tuneModel(
  { weights, config, layers, calibration, seed, onProgress, signal }: TuneModelTask,
  { tuningEpochs, tuningSequences }: Required<ModelTuningOptions>,
): Promise<{ layers: Map<string, VqLayer>; report: TuningReport }> {
  const written =
    tuningSequences === 0
      ? []
      : await sampleSequences(weights, config, {
          count: tuningSequences,
          length: calibration.length,
          seed: deriveSeed(seed, 4),
          onProgress: ({ done, total }) =>
            onProgress('writing text to tune on', (SAMPLING_SHARE * done) / total),
          ...(signal && { signal }),
        })
  const start = tuningSequences === 0 ? 0 : SAMPLING_SHARE
  return tuneCodebooks({
    source: weights,
    config,
    layers,
    sequences: [...calibration.sequences, ...written],
    options: { epochs: tuningEpochs, seed },
    onProgress: ({ step, done }) => onProgress(step, start + (1 - start) * done),
    ...(signal && { signal }),
  })
}
