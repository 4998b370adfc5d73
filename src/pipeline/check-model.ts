import { OptionError } from '../errors.js'
import type { LlamaConfig } from '../model/config.js'
import { allLinearLayers } from '../model/linears.js'
import { assertTensorShape, type WeightSource } from '../model/weights.js'
import { layoutOf } from '../packing/layout.js'
import { resolveLayoutOptions } from '../packing/layout-options.js'
import type { MethodSettings } from './quantize-options.js'

/**
 * Finds before the work begins what would stop it halfway: a linear layer that is missing or of another shape, and
 * bits per value that a layer is too small for.
 *
 * @throws CheckpointError, OptionError naming the layer
 */
export function checkLinearLayers(
  weights: WeightSource,
  config: LlamaConfig,
  settings: MethodSettings,
): void {
  for (const { name, rows, cols } of allLinearLayers(config)) {
    assertTensorShape(weights, name, [rows, cols], 'hidden_size, intermediate_size, heads and head_dim')
    if (settings.method !== 'gptvq') continue
    try {
      layoutOf(rows, cols, resolveLayoutOptions(settings.options))
    } catch (error) {
      if (!(error instanceof OptionError)) throw error
      throw new OptionError(error.option, `${name}: ${error.message.slice(error.option.length + 2)}`)
    }
  }
}
