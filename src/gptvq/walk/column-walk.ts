import type { Matrix } from '../../common/matrix.js'
import type { VqLayer, VqLayout } from '../../packing/vq-layer.js'
import type { VqSettings } from '../options.js'

/** The parts of a layer while its columns are walked from left to right. */
export interface ColumnWalk {
  readonly layout: VqLayout
  readonly settings: VqSettings
  /** The number in the whole layer of the first row group here. */
  readonly firstGroup: number
  /** rows x padded columns: weights that already absorbed the error of the columns before. Overwritten. */
  readonly work: Matrix
  /** `U`, padded columns square. */
  readonly factor: Matrix
  /** vectors per row x d x d. */
  readonly metrics: Float64Array
  /** Receives indices, codebooks and their scales. */
  readonly layer: VqLayer
  /** The stored codebooks as floats, groups x k x d. */
  readonly codebooks: Float32Array
  /** The stored scales as floats, rows x blocksPerRow, set group by group; undefined without scales. */
  readonly scales: Float32Array | undefined
}
