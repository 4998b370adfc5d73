import { permuteColumns } from '../../packing/permutation.js'
import { dequantizeLayer, type VqLayer } from '../../packing/vq-layer.js'
import type { Parameter } from './trainable.js'

/** Weights that move freely beside a layer of vectors: where its indices should be chosen for. */
export interface MovingWeights {
  readonly parameter: Parameter
  /** The weights, rows x cols, in the order of the layer's stored columns. */
  stored(): Float32Array
}

/** Starts at the weights that the layer stands for, so that at first its own indices are the nearest. */
export function movingWeights(layer: VqLayer, rate: number): MovingWeights {
  const values = dequantizeLayer(layer).data
  const square = values.reduce((sum, value) => sum + value * value, 0)
  const size = Math.sqrt(square / values.length) || 1
  return {
    parameter: { name: 'weights', values, sizes: rate * size, decays: false },
    stored: () => (layer.permutation ? permuteColumns(values, layer.permutation) : values),
  }
}
