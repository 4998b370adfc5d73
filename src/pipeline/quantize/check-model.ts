import { OptionError } from '../../errors.js'
import { assertBlockTensors } from '../model/decoder/block.js'
import type { LlamaConfig } from '../model/families/index.js'
import { assertEmbedding } from '../model/decoder/embedding.js'
import { assertHead } from '../model/decoder/head.js'
import { allLinearLayers } from '../model/decoder/linears.js'
import type { WeightSource } from '../model/decoder/weights.js'
import { layoutOf } from '../../packing/layout.js'
import { resolveLayoutOptions } from '../../packing/layout-options.js'
import { centroidsOf, type VqLayout } from '../../packing/vq-layer.js'
import { planBudget } from '../mixed/plan.js'
import type { MethodSettings } from './quantize-options.js'

/**
 * Finds before the work begins what would stop it halfway, or leave a model that cannot be run: a tensor that is missing
 * or of another shape, bits per value that a layer is too small for or that all layers together cannot meet, more centroids than a group has vectors. Reads no
 * weights.
 *
 * @throws CheckpointError, OptionError naming the tensor or layer
 */
export function checkModel(weights: WeightSource, config: LlamaConfig, settings: MethodSettings): void {
  assertEmbedding(weights, config)
  for (let index = 0; index < config.layers; index++) assertBlockTensors(weights, config, index)
  assertHead(weights, config)
  if (settings.method !== 'gptvq') return
  if (settings.budget !== undefined) {
    planBudget(config, settings.options, settings.budget)
    return
  }
  const layout = resolveLayoutOptions(settings.options)
  for (const { name, rows, cols } of allLinearLayers(config)) {
    try {
      requireEnoughVectors(layoutOf(rows, cols, layout))
    } catch (error) {
      if (!(error instanceof OptionError)) throw error
      throw new OptionError(error.option, `${name}: ${error.message.slice(error.option.length + 2)}`)
    }
  }
}

/** A codebook larger than what it stands for would make the model larger, after hours of clustering. */
function requireEnoughVectors(layout: VqLayout): void {
  const vectors = layout.rowsPerGroup * (layout.columnsPerGroup / layout.vectorDim)
  if (centroidsOf(layout) <= vectors) return
  throw new OptionError(
    'bits',
    `${layout.bits} bits in ${layout.vectorDim} dimensions make ${centroidsOf(layout)} centroids, the largest group of ` +
      `this ${layout.rows} x ${layout.cols} layer has ${vectors} vectors; use fewer bits or a smaller vectorDim`,
  )
}
