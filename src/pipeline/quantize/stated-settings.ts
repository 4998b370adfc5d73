import { type ActivationSettings, isStatic, statedActivations } from '../activations/options.js'
import type { CalibrationOptions } from '../calibrate/calibration.js'
import { type EqualizationOptions, equalizesByText } from '../equalize/options.js'
import type { OutputOptions } from '../folders/output.js'
import { type EndTensorOptions, endsByGptvq } from './end-tensors.js'
import type { LayerPlanOptions } from './layers/layer-plan.js'
import { isCalibrated, type MethodSettings } from './quantize-options.js'

/** The options in force for a whole model, for reports and for the written folder. */
export function statedSettings(
  settings: MethodSettings,
  activations: ActivationSettings | undefined,
  options: LayerPlanOptions & EndTensorOptions & CalibrationOptions & EqualizationOptions & OutputOptions,
): Readonly<Record<string, unknown>> {
  const { skip, set, embeddingBits, headBits, embeddingMethod, headMethod, maxShardBytes } = options
  const { sequences = 128, sequenceLength = 2048, seed = 0 } = options
  const own = { skip, set, embeddingBits, headBits, embeddingMethod, headMethod, maxShardBytes }
  return {
    ...settings.stated,
    ...statedActivations(activations),
    ...((isCalibrated(settings) ||
      isStatic(activations) ||
      equalizesByText(options.equalization) ||
      endsByGptvq(options)) && {
      sequences,
      sequenceLength,
      seed,
    }),
    ...Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined)),
  }
}
