import { requireFields, requireWhole } from '../../common/check-option.js'
import { OptionError, ShapeError } from '../../common/errors.js'
import type { Matrix } from '../../common/matrix.js'
import { deriveSeed, randomGenerator } from '../../common/random.js'
import {
  blocksPerRow,
  centroidsOf,
  columnGroupsOf,
  decodeBlockScales,
  decodeCodebook,
  rowGroupsOf,
  trellisColumns,
  type VqLayer,
  vectorsPerRow,
} from '../../packing/vq-layer.js'
import { requireAllFinite } from '../check.js'

/** One codebook, how often each of its centroids is used, and the weights that it stands for, as far as known. */
export interface CodebookGroup {
  /** Weights per vector, 1 to 4. */
  readonly vectorDim: number
  /** Bits per weight of the number of a centroid: there are at most `2^(bits * vectorDim)`. */
  readonly bits: number
  /** k x vectorDim. */
  readonly centroids: Float32Array
  /** k: vectors whose index names the centroid. */
  readonly counts?: ArrayLike<number>
  /**
   * n x vectorDim: the weights before they were quantized, all or a sample of them; in units of the centroids, so over
   * their block scales where there are any, and with a trellis over the factors of their columns.
   */
  readonly weights?: Float32Array
  /** Only with a trellis. */
  readonly trellis?: {
    /** Bits of an index per weight, mean over the group's columns. */
    readonly bits: number
    /** n x vectorDim: the centroid that each of `weights` has. */
    readonly coded?: Float32Array
  }
}

/** Bits of the number of a centroid. */
const MOST_INDEX_BITS = 16
/** Vectors of a group that are kept: enough for a smooth density, few enough for any layer. */
const SAMPLE_VECTORS = 20_000

/**
 * One group of a layer as {@link codebookPlot} takes it.
 *
 * @param group its number: row group times column groups plus column group
 * @param weight the layer's weights before they were quantized (rows x cols); a large group is sampled, the same
 *   vectors every time
 * @throws OptionError when there is no such group, ShapeError when `weight` does not fit the layer
 */
export function codebookGroup(layer: VqLayer, group = 0, weight?: Matrix): CodebookGroup {
  requireFields(layer, 'a layer that quantizeLayer gave', [
    'layout',
    'indices',
    'codebooks',
    'codebookScales',
  ])
  const { layout } = layer
  const { rows, cols, vectorDim } = layout
  const bits = Math.log2(centroidsOf(layout)) / vectorDim
  requireWhole('group', group, 0, rowGroupsOf(layout) * columnGroupsOf(layout) - 1)
  if (weight !== undefined && (weight.rows !== rows || weight.cols !== cols)) {
    throw new ShapeError(
      `weight is ${weight.rows} x ${weight.cols}, the layer ${rows} x ${cols}; expected the weights of this layer`,
    )
  }
  const size = centroidsOf(layout) * vectorDim
  const centroids = new Float32Array(size)
  decodeCodebook(layer, group, centroids)
  const counts = groupCounts(layer, group)
  const sample = weight && sampleGroup(layer, group, weight, centroids)
  const indexBits = indexBitsOfGroup(layer, group)
  // a group at the edge may hold nothing but vectors that are cut short
  if (sample === undefined || sample.weights.length === 0) {
    return { vectorDim, bits, centroids, counts, ...(indexBits && { trellis: { bits: indexBits } }) }
  }
  const { weights, coded } = sample
  return {
    vectorDim,
    bits,
    centroids,
    counts,
    weights,
    ...(indexBits && { trellis: { bits: indexBits, coded } }),
  }
}

/** Of a layer with a trellis. */
function indexBitsOfGroup(layer: VqLayer, group: number): number | undefined {
  const { trellis, vectorDim } = layer.layout
  if (trellis === undefined) return undefined
  const { firstVector, lastVector } = groupBounds(layer, group)
  const widths = trellis.widths.subarray(firstVector, lastVector)
  return widths.reduce((sum, width) => sum + width, 0) / (widths.length * vectorDim)
}

/** How often each centroid of a group is used, k numbers. */
export function groupCounts(layer: VqLayer, group: number): Uint32Array {
  const { indices, layout } = layer
  const counts = new Uint32Array(centroidsOf(layout))
  const { firstRow, lastRow, firstVector, lastVector } = groupBounds(layer, group)
  const perRow = vectorsPerRow(layout)
  for (let r = firstRow; r < lastRow; r++) {
    for (let v = firstVector; v < lastVector; v++) counts[indices[r * perRow + v]]++
  }
  return counts
}

function groupBounds({ layout }: VqLayer, group: number) {
  const { rows, rowsPerGroup, columnsPerGroup, vectorDim } = layout
  const columnGroups = columnGroupsOf(layout)
  const firstRow = Math.floor(group / columnGroups) * rowsPerGroup
  const firstVector = ((group % columnGroups) * columnsPerGroup) / vectorDim
  return {
    firstRow,
    lastRow: Math.min(rows, firstRow + rowsPerGroup),
    firstVector,
    lastVector: Math.min(vectorsPerRow(layout), firstVector + columnsPerGroup / vectorDim),
  }
}

/**
 * The whole vectors of a group over the scales of their blocks, or an even draw of them, and the centroids that stand for
 * them; a vector that is cut short by the edge is left out.
 */
function sampleGroup(layer: VqLayer, group: number, weight: Matrix, centroids: Float32Array) {
  const { layout, permutation } = layer
  const { vectorDim: d, scaleBlockSize = 1 } = layout
  const scales = decodeBlockScales(layer)
  const { firstRow, lastRow, firstVector, lastVector } = groupBounds(layer, group)
  const perRow = Math.min(lastVector, Math.floor(weight.cols / d)) - firstVector
  const factors = trellisColumns(layout, 0, weight.cols)?.factors
  const drawn = sampleIndices((lastRow - firstRow) * perRow, SAMPLE_VECTORS)
  const weights = new Float32Array(drawn.length * d)
  const coded = new Float32Array(drawn.length * d)
  for (const [i, vector] of drawn.entries()) {
    const row = firstRow + Math.floor(vector / perRow)
    const first = (firstVector + (vector % perRow)) * d
    const factor = factors?.[first / d] ?? 1
    const centroid = d * layer.indices[row * vectorsPerRow(layout) + first / d]
    coded.set(centroids.subarray(centroid, centroid + d), i * d)
    for (let a = 0; a < d; a++) {
      const column = first + a
      const scale = scales?.[row * blocksPerRow(layout) + Math.floor(column / scaleBlockSize)] ?? 1
      weights[i * d + a] =
        weight.data[row * weight.cols + (permutation?.[column] ?? column)] / (scale * factor)
    }
  }
  return { weights, coded }
}

/** Numbers from 0 to `count` - 1 in order: all, or one drawn from each of `most` equal stretches. Always the same. */
export function sampleIndices(count: number, most: number): Uint32Array {
  if (count <= most) return Uint32Array.from({ length: Math.max(0, count) }, (_, i) => i)
  const random = randomGenerator(deriveSeed(0, count, most))
  return Uint32Array.from({ length: most }, (_, i) => {
    const from = Math.floor((i * count) / most)
    const to = Math.floor(((i + 1) * count) / most)
    return from + Math.floor(random() * (to - from))
  })
}

/** The vectors of `sampleIndices`, each of `d` values. */
export function sampleVectors(vectors: Float32Array, d: number, most: number): Float32Array {
  const count = vectors.length / d
  if (count <= most) return vectors
  const sample = new Float32Array(most * d)
  for (const [i, vector] of sampleIndices(count, most).entries()) {
    sample.set(vectors.subarray(vector * d, (vector + 1) * d), i * d)
  }
  return sample
}

/** Checks a group before it is drawn. @throws OptionError naming the field that cannot be right */
export function checkGroup({ vectorDim, bits, centroids, counts, weights }: CodebookGroup): void {
  requireWhole('vectorDim', vectorDim, 1, 4)
  if (!(bits > 0 && bits <= MOST_INDEX_BITS)) {
    throw new OptionError('bits', `expected a number above 0, at most ${MOST_INDEX_BITS}, got ${bits}`)
  }
  const k = centroids.length / vectorDim
  if (!(k >= 1) || !Number.isInteger(k)) {
    throw new OptionError(
      'centroids',
      `has ${centroids.length} values; expected k x ${vectorDim}, at least one centroid`,
    )
  }
  if (counts !== undefined && counts.length !== k) {
    throw new OptionError('counts', `has ${counts.length} values; expected one for each of ${k} centroids`)
  }
  if (weights !== undefined && (weights.length === 0 || weights.length % vectorDim !== 0)) {
    throw new OptionError('weights', `has ${weights.length} values; expected n x ${vectorDim}, n at least 1`)
  }
  requireAllFinite('centroids', centroids)
  requireAllFinite('counts', counts ?? [])
  requireAllFinite('weights', weights ?? [])
}

/** The largest magnitude of weights and centroids with a little room around it: half the length of an axis. */
export function reachOf({ centroids, weights }: CodebookGroup): number {
  let reach = 0
  for (const value of centroids) reach = Math.max(reach, Math.abs(value))
  for (const value of weights ?? []) reach = Math.max(reach, Math.abs(value))
  return reach === 0 ? 1 : reach * 1.06
}
