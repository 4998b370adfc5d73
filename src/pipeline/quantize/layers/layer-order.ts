import { requireOneOf, requireShare } from '../../../common/check-option.js'
import { type TokenWeighting, tokenWeightings } from '../../calibrate/statistics/token-weights.js'

/**
 * Which activations a layer's Hessian comes from. `sequential`: those that went through all quantized layers before it
 * (q, k, v; then o; then gate, up; then down). `block`: through the quantized blocks before its own, as published.
 */
export type LayerOrder = 'sequential' | 'block'

export const layerOrders: readonly LayerOrder[] = ['sequential', 'block']

/** How the layers of a model follow each other. */
export interface LayerOrderOptions {
  /** Default `'sequential'`. */
  layerOrder?: LayerOrder
  /**
   * Share, 0 to 1, of the drift of a layer's surroundings from those in the full model that its weights make up for,
   * where two halves of the calibration text agree on it: see `correctDrift`. Default 1; 0 spares running the full
   * model beside the quantized one.
   */
  driftCorrection?: number
  /** Default `'attention'`. */
  tokenWeights?: TokenWeighting
}

/** Checks the options and fills in the defaults. @throws OptionError */
export function resolveLayerOrder(options: LayerOrderOptions): Required<LayerOrderOptions> {
  const { layerOrder = 'sequential', driftCorrection = 1, tokenWeights = 'attention' } = options
  requireOneOf('layerOrder', layerOrder, layerOrders)
  requireShare('driftCorrection', driftCorrection)
  requireOneOf('tokenWeights', tokenWeights, tokenWeightings)
  return { layerOrder, driftCorrection, tokenWeights }
}
