import { type Checkpoint, openCheckpoint } from '../../checkpoint/checkpoint.js'
import { fetchOptionsOf, fileIn, placeOf } from '../../checkpoint/model-source.js'
import { checkpointWeights } from '../../checkpoint/model-weights.js'
import { CheckpointError } from '../../common/errors.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import { describeDecoder } from '../../model/families/index.js'
import { type ActivationSettings, isStatic, resolveActivations } from '../activations/options.js'
import { withScheme } from '../activations/scheme.js'
import { requireCalibration } from '../calibrate/calibration.js'
import {
  type EqualizationOptions,
  equalizesByText,
  resolveEqualization,
  statedEqualization,
} from '../equalize/options.js'
import { requireWholeModel } from '../folders/whole-model.js'
import { checkModel } from './check-model.js'
import { type EndTensor, endTensors, seesText } from './end-tensors.js'
import { type LayerPlan, planLayers } from './layers/layer-plan.js'
import { noteOnShortStreams } from './layers/trellis-notes.js'
import type { QuantizeModelOptions } from './quantize-model-options.js'
import { defaultBits, isCalibrated, type MethodSettings, resolveMethod } from './quantize-options.js'
import { statedSettings } from './stated-settings.js'

/** A model that is open, and what is to be done with it. */
export interface PreparedRun {
  readonly checkpoint: Checkpoint
  readonly config: DecoderDescription
  readonly weights: WeightSource
  readonly settings: MethodSettings
  readonly plan: LayerPlan
  readonly ends: readonly EndTensor[]
  /** The options in force. */
  readonly stated: Readonly<Record<string, unknown>>
  /** What was noticed about the model's configuration, and about settings. */
  readonly notes: readonly string[]
  /** How activations are rounded; undefined: not at all. */
  readonly activations: ActivationSettings | undefined
  readonly equalizing: Required<EqualizationOptions>
  /** Whether anything is looked at on calibration text. */
  readonly looksAtText: boolean
  /** Whether the model writes its own calibration text. */
  readonly writesText: boolean
}

/**
 * Opens a model, and checks it and all options; of the weights it reads nothing more. Its checkpoint is to be closed.
 *
 * @throws OptionError, CheckpointError, UnsupportedError
 */
export async function prepareRun(given: QuantizeModelOptions): Promise<PreparedRun> {
  const options = withScheme(given)
  requireCalibration(options.calibration)
  const method = options.method ?? 'gptvq'
  const settings = resolveMethod(method, { ...options, bits: defaultBits(method, options) })
  const activations = resolveActivations(options)
  const equalizing = resolveEqualization(options)
  const checkpoint = await openCheckpoint(options.model, fetchOptionsOf(options))
  try {
    const notes = [...checkpoint.notes]
    const config = describeDecoder(
      checkpoint.config,
      fileIn({ place: placeOf(options.model) }, 'config.json'),
      notes,
    )
    const weights = plainWeights(checkpoint)
    requireWholeModel(checkpoint, config, undefined)
    const plan = planLayers(config, settings, options)
    const ends = endTensors(config, options)
    const stated = {
      ...statedSettings(settings, activations, options),
      ...statedEqualization(equalizing),
    }
    checkModel(weights, config, plan, settings.method === 'gptvq' ? settings.budget : undefined)
    notes.push(...noteOnShortStreams(plan))
    const looksAtText =
      isCalibrated(settings) ||
      isStatic(activations) ||
      equalizesByText(equalizing.equalization) ||
      ends.some(seesText)
    const writesText = looksAtText && options.calibration === undefined
    const ways = { settings, activations, equalizing, looksAtText, writesText }
    return { checkpoint, config, weights, plan, ends, stated, notes, ...ways }
  } catch (error) {
    await checkpoint.close()
    throw error
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
