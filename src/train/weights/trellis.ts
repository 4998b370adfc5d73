import { bfloatToFloat, floatToBfloat } from '../../kernels/half.js'
import { SCALE_LEVELS } from '../../packing/block-scales.js'
import { permuteColumns } from '../../packing/permutation.js'
import {
  blocksPerRow,
  columnGroupsOf,
  dequantizeLayer,
  type VqLayer,
  type VqLayout,
} from '../../packing/vq-layer.js'
import type { VectorOptions } from './codebooks.js'
import { movingWeights } from './moving-weights.js'
import { nearestIndices } from './nearest-indices.js'
import type { Floats, Trainable } from './trainable.js'

/**
 * How far the code of a block moves per step at the learning rate 1, and, as a share, the scale of a group: a code must
 * come half way to the next before anything changes.
 */
const BLOCK_RATE = 5
const GROUP_RATE = 0.2

/**
 * A layer with a trellis in training. Its codebook is a constant, so what is trained are scales: `groups`, one per group,
 * over the first ones; and `blocks` (rows x blocksPerRow), their codes as real numbers. Both are rounded to their stored
 * form whenever they are used; the gradient passes the rounding (straight-through). With an `indexRate` also `weights`, as
 * in {@link trainableCodebooks}; then the best path of keys is searched anew.
 *
 * @param start with a trellis; left as it is
 */
export function trainableTrellis(start: VqLayer, { indexRate }: VectorOptions): Trainable {
  const groups = new Float32Array(start.codebookScales.length).fill(1)
  const blocks = Float32Array.from(start.blockScales?.codes ?? [])
  const moving = indexRate > 0 ? movingWeights(start, indexRate) : undefined
  let layer = start
  return {
    parameters: [
      { name: 'groups', values: groups, sizes: GROUP_RATE, decays: false },
      ...(start.blockScales ? [{ name: 'blocks', values: blocks, sizes: BLOCK_RATE, decays: false }] : []),
      ...(moving ? [moving.parameter] : []),
    ],
    frozenBytes: layer.indices.byteLength + layer.codebookScales.byteLength,
    refresh() {
      const codebookScales = start.codebookScales.map((scale, i) =>
        bfloatToFloat(floatToBfloat(scale * groups[i])),
      )
      const { blockScales } = start
      const codes = blockScales && Uint8Array.from(blocks, nearestLevel)
      layer = {
        ...layer,
        codebookScales,
        ...(blockScales && codes && { blockScales: { ...blockScales, codes } }),
      }
    },
    values: () => dequantizeLayer(layer).data,
    layer: () => layer,
    addGradient(onValues, onParameters) {
      addScaleGradients(layer, onValues, groups, onParameters[0], layer.blockScales && onParameters[1])
      const onWeights = moving && onParameters[onParameters.length - 1]
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

function nearestLevel(code: number): number {
  return Math.max(0, Math.min(SCALE_LEVELS - 1, Math.round(code)))
}

/** A weight is proportional to the scale of its group, and to the ratio of scales to the power of its block's code. */
function addScaleGradients(
  layer: VqLayer,
  onValues: Float32Array,
  factors: Floats,
  onGroups: Floats,
  onBlocks: Floats | undefined,
): void {
  const { layout, permutation, blockScales } = layer
  const { rows, cols, scaleBlockSize, columnsPerGroup, rowsPerGroup } = layout
  const weights = inStoredOrder(dequantizeLayer(layer).data, permutation)
  const slopes = inStoredOrder(onValues, permutation)
  const perStep = blockScales ? Math.log(blockScales.ratio) : 0
  const [runSize, runs] = runsOf(layout)
  for (let r = 0; r < rows; r++) {
    const rowGroup = Math.floor(r / rowsPerGroup) * columnGroupsOf(layout)
    for (let run = 0; run < runs; run++) {
      const from = run * runSize
      let sum = 0
      for (let at = r * cols + from; at < r * cols + Math.min(from + runSize, cols); at++) {
        sum += weights[at] * slopes[at]
      }
      const group = rowGroup + Math.floor(from / columnsPerGroup)
      onGroups[group] += sum / factors[group]
      if (onBlocks && scaleBlockSize !== undefined) onBlocks[r * blocksPerRow(layout) + run] += sum * perStep
    }
  }
}

/** Runs of a row within a group whose weights share all scales: how long, and how many. */
function runsOf(layout: VqLayout): [size: number, count: number] {
  const { scaleBlockSize, columnsPerGroup, cols } = layout
  if (scaleBlockSize !== undefined) return [scaleBlockSize, blocksPerRow(layout)]
  return [columnsPerGroup, Math.ceil(cols / columnsPerGroup)]
}

function inStoredOrder(values: Float32Array, permutation: Uint32Array | undefined): Float32Array {
  return permutation ? permuteColumns(values, permutation) : values
}
