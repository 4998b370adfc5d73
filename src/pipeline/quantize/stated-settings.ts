import type { EndTensorOptions } from './end-tensors.js'
import type { LayerPlanOptions } from './layer-plan.js'
import type { MethodSettings } from './quantize-options.js'

/** The options in force for a whole model, for reports and for the written folder. */
export function statedSettings(
  { stated }: MethodSettings,
  { skip, set, embeddingBits, headBits }: LayerPlanOptions & EndTensorOptions,
): Readonly<Record<string, unknown>> {
  const own = { skip, set, embeddingBits, headBits }
  return { ...stated, ...Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined)) }
}
