import { kmeans } from 'ml-kmeans'
import { storeCodebook } from '../codebook/store-codebook.js'
import { type OptionNames, refuseUnknown, requireObject, requireWhole } from '../common/check-option.js'
import { OptionError } from '../common/errors.js'
import { assertFinite, type Matrix } from '../common/matrix.js'
import { deriveSeed } from '../common/random.js'
import { layoutOf } from '../packing/layout.js'
import { type LayoutOptions, resolveLayoutOptions } from '../packing/layout-options.js'
import {
  centroidsOf,
  columnGroupsOf,
  emptyLayer,
  rowGroupsOf,
  type VqLayer,
  type VqLayout,
  vectorsPerRow,
} from '../packing/vq-layer.js'

const ITERATIONS = 100

/** What is of no use without activations. */
const USELESS = ['scaleBlockSize', 'columnOrder'] as const

/** Options of {@link quantizeKmeans}; it knows no block scales and no order of columns. */
export type KmeansOptions = Omit<LayoutOptions, 'scaleBlockSize' | 'columnOrder'> & {
  /** Seed of the first centroids, default 0. */
  seed?: number
}

const optionNames: OptionNames<KmeansOptions> = {
  vectorDim: true,
  bits: true,
  trellisBits: true,
  indexWidths: true,
  groupSize: true,
  bpv: true,
  columnsPerGroup: true,
  codebookBits: true,
  seed: true,
}

/**
 * Plain k-means vector quantization by `ml-kmeans`, without a Hessian and without error feedback: the baseline that
 * shows what those two are worth. Same layout, codebooks and bytes as `quantizeLayer` with the same options. Its
 * arrays of arrays make it slow.
 *
 * @param weight out x in
 * @param name how errors name the layer, default `'weight'`
 * @throws OptionError, NumericError naming the layer
 */
export function quantizeKmeans(weight: Matrix, options: KmeansOptions = {}, name = 'weight'): VqLayer {
  requireObject('options', options)
  const given: LayoutOptions = options
  for (const option of USELESS) {
    if (given[option] === undefined) continue
    throw new OptionError(option, 'is of no use to plain k-means; leave it out')
  }
  refuseUnknown(options, optionNames)
  const settings = resolveLayoutOptions({ ...options, scaleBlockSize: 'none' })
  const { seed = 0 } = options
  requireWhole('seed', seed, 0)
  assertFinite(weight, name)
  const layer = emptyLayer(layoutOf(weight.rows, weight.cols, settings), settings.codebookBits)
  for (let rowGroup = 0; rowGroup < rowGroupsOf(layer.layout); rowGroup++) {
    for (let columnGroup = 0; columnGroup < columnGroupsOf(layer.layout); columnGroup++) {
      clusterGroup(weight, layer, rowGroup, columnGroup, deriveSeed(seed, rowGroup, columnGroup))
    }
  }
  return layer
}

function clusterGroup(
  weight: Matrix,
  layer: VqLayer,
  rowGroup: number,
  columnGroup: number,
  seed: number,
): void {
  const { layout } = layer
  const size = centroidsOf(layout) * layout.vectorDim
  const group = rowGroup * columnGroupsOf(layout) + columnGroup
  const vectors = vectorsOfGroup(weight, layout, rowGroup, columnGroup)
  const k = Math.min(centroidsOf(layout), vectors.length)
  const { clusters, centroids } = kmeans(vectors, k, { seed, maxIterations: ITERATIONS })
  const codebook = new Float32Array(size)
  for (const [j, centroid] of centroids.entries()) codebook.set(centroid, j * layout.vectorDim)
  layer.codebookScales[group] = storeCodebook(codebook, layer.codebooks, group * size)

  const firstVector = (columnGroup * layout.columnsPerGroup) / layout.vectorDim
  const perRow = vectorsPerRow(layout)
  const width = Math.min(layout.columnsPerGroup / layout.vectorDim, perRow - firstVector)
  for (const [i, cluster] of clusters.entries()) {
    const row = rowGroup * layout.rowsPerGroup + Math.floor(i / width)
    layer.indices[row * perRow + firstVector + (i % width)] = cluster
  }
}

/** A group's vectors, row by row; the end of a ragged row is padded with zeros. */
function vectorsOfGroup(weight: Matrix, layout: VqLayout, rowGroup: number, columnGroup: number): number[][] {
  const { vectorDim: d, rowsPerGroup, columnsPerGroup, rows, cols } = layout
  const start = columnGroup * columnsPerGroup
  const vectors: number[][] = []
  for (let r = rowGroup * rowsPerGroup; r < Math.min((rowGroup + 1) * rowsPerGroup, rows); r++) {
    for (let column = start; column < Math.min(start + columnsPerGroup, cols); column += d) {
      const vector = Array.from(
        weight.data.subarray(r * cols + column, r * cols + Math.min(column + d, cols)),
      )
      while (vector.length < d) vector.push(0)
      vectors.push(vector)
    }
  }
  return vectors
}
