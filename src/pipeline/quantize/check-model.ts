import { OptionError } from '../../common/errors.js'
import { assertBlockTensors } from '../../model/decoder/block.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { assertEmbedding } from '../../model/decoder/embedding.js'
import { assertHead } from '../../model/decoder/head.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import { layoutOf } from '../../packing/layout.js'
import { resolveLayoutOptions } from '../../packing/layout-options.js'
import { centroidsOf, isTrellis, type VqLayout } from '../../packing/vq-layer.js'
import { planBudget } from '../mixed/plan.js'
import type { LayerPlan } from './layers/layer-plan.js'

/**
 * Finds before the work begins what would stop it halfway, or leave a model that cannot be run: a tensor that is missing
 * or of another shape, bits per value that a layer is too small for or that all layers together cannot meet, more
 * centroids than a group has vectors. Reads no weights.
 *
 * @param budget bits per value of all layers together, where they share them out
 * @throws CheckpointError, OptionError naming the tensor or layer
 */
export function checkModel(
  weights: WeightSource,
  config: DecoderDescription,
  plan: LayerPlan,
  budget: number | undefined,
): void {
  assertEmbedding(weights, config)
  for (const block of config.blocks) assertBlockTensors(weights, block)
  assertHead(weights, config)
  const first = plan.settingsOf(plan.linears[0].name)
  if (budget !== undefined && first?.method === 'gptvq') {
    planBudget(plan.linears, first.options, budget)
    return
  }
  for (const { name, rows, cols } of plan.linears) {
    const settings = plan.settingsOf(name)
    if (settings?.method !== 'gptvq') continue
    try {
      requireEnoughVectors(layoutOf(rows, cols, resolveLayoutOptions(settings.options)))
    } catch (error) {
      if (!(error instanceof OptionError)) throw error
      throw new OptionError(error.option, `${name}: ${error.message.slice(error.option.length + 2)}`)
    }
  }
}

/** A codebook larger than what it stands for would make the model larger, after hours of clustering. */
function requireEnoughVectors(layout: VqLayout): void {
  const vectors = layout.rowsPerGroup * (layout.columnsPerGroup / layout.vectorDim)
  if (isTrellis(layout) || centroidsOf(layout) <= vectors) return
  throw new OptionError(
    'bits',
    `${layout.bits} bits in ${layout.vectorDim} dimensions make ${centroidsOf(layout)} centroids, the largest group of ` +
      `this ${layout.rows} x ${layout.cols} layer has ${vectors} vectors; use fewer bits or a smaller vectorDim`,
  )
}
