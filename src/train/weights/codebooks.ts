import { decodeCodebooks, dequantizeLayer, type VqLayer } from '../../packing/vq-layer.js'
import { addCodebookGradient, codebookSizes, withCodebooks } from './codebook-values.js'
import { movingWeights } from './moving-weights.js'
import { nearestIndices } from './nearest-indices.js'
import type { Trainable } from './trainable.js'

/** How a layer of vectors is trained. */
export interface VectorOptions {
  /** Learning rate of indices, as a share of that of codebooks or scales; 0: indices stay as they are. */
  readonly indexRate: number
}

/**
 * A layer of plain codebooks in training. Its parameter `codebooks` (groups x k x d) is rounded to its stored form whenever
 * it is used; block scales stay. With an `indexRate` each weight has a value of its own too, `weights`, which the gradient
 * moves as if there were no codebook (straight-through): rechoosing gives each vector the centroid nearest to it.
 *
 * @param start without a trellis; left as it is
 */
export function trainableCodebooks(start: VqLayer, { indexRate }: VectorOptions): Trainable {
  const values = Float64Array.from(decodeCodebooks(start))
  const moving = indexRate > 0 ? movingWeights(start, indexRate) : undefined
  let layer = start
  return {
    parameters: [
      {
        name: 'codebooks',
        values,
        sizes: codebookSizes(values, start.codebookScales.length),
        decays: false,
      },
      ...(moving ? [moving.parameter] : []),
    ],
    frozenBytes:
      layer.indices.byteLength + layer.codebooks.byteLength + (layer.blockScales?.codes.length ?? 0),
    refresh() {
      layer = withCodebooks(layer, values)
    },
    values: () => dequantizeLayer(layer).data,
    layer: () => layer,
    addGradient(onValues, [onCodebooks, onWeights]) {
      addCodebookGradient(layer, onValues, onCodebooks as Float64Array)
      if (onWeights) for (let i = 0; i < onValues.length; i++) onWeights[i] += onValues[i]
    },
    ...(moving && {
      choices: {
        values: () => layer.indices,
        set(indices) {
          layer = { ...layer, indices }
        },
        rechoose() {
          layer = { ...layer, indices: nearestIndices(layer, moving.stored()) }
        },
      },
    }),
  }
}
