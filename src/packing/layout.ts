import { OptionError } from '../errors.js'
import { packedRowBytes } from '../kernels/bits.js'
import { RATIO_BITS, SCALE_BITS } from './block-scales.js'
import type { LayoutSettings } from './layout-options.js'
import { permutationBytes } from './permutation.js'
import {
  blocksPerRow,
  centroidsOf,
  columnGroupsOf,
  indexBitsOf,
  isTrellis,
  rowGroupsOf,
  type VqLayout,
  vectorsPerRow,
} from './vq-layer.js'

/**
 * How a layer of rows x cols is cut under the settings: a group is `columnsPerGroup` columns (fewer where the layer
 * is narrower) by as many rows as `groupSize` gives or `bpv` allows.
 *
 * @throws OptionError when `bpv` cannot be met, naming the least that can be, or a group holds no whole vector
 */
export function layoutOf(rows: number, cols: number, settings: LayoutSettings): VqLayout {
  const { vectorDim, bits, trellisBits, groupSize, bpv, scaleBlockSize } = settings
  const paddedCols = Math.ceil(cols / vectorDim) * vectorDim
  const columnsPerGroup = Math.min(settings.columnsPerGroup, paddedCols)
  const cut = (rowsPerGroup: number): VqLayout => ({
    rows,
    cols,
    vectorDim,
    bits,
    ...(trellisBits > 0 && { trellisBits }),
    columnsPerGroup,
    rowsPerGroup,
    ...(scaleBlockSize !== undefined && { scaleBlockSize }),
  })
  if (groupSize !== undefined) return cut(Math.min(rows, Math.floor(groupSize / columnsPerGroup)))
  const target = bpv ?? defaultBpv(settings)
  const whole = cut(rows)
  const least = storedBits(whole, settings)
  // whole bits: 1.4 bits of 25 weights are 35, though 1.4 * 25 in floating point may fall short of it
  const allowed = Math.floor(target * rows * cols * (1 + 1e-12))
  if (least > allowed) {
    if (bpv === undefined) return whole
    throw new OptionError(
      'bpv',
      `${bpv} cannot be met by a ${rows} x ${cols} layer with vectorDim ${vectorDim} and ${bits} bits: ` +
        `one codebook per ${columnsPerGroup} columns${scaleBlockSize ? ` and a scale per ${scaleBlockSize} weights` : ''} ` +
        `already takes ${roundedUp(least / (rows * cols))}; ` +
        `raise bpv or ${scaleBlockSize ? 'scaleBlockSize (or none)' : 'columnsPerGroup'}, or lower bits or vectorDim`,
    )
  }
  const fewest = fewestRows(rows, (count) => storedBits(cut(count), settings) <= allowed)
  return cut(trellisBits > 0 ? Math.max(fewest, evenRows(rows)) : fewest)
}

/**
 * The rows of a trellis' groups: about {@link TRELLIS_ROWS}, in groups of about the same height. Smaller groups would
 * take few bits more, but a trellis is at its best some rows below its start only.
 */
function evenRows(rows: number): number {
  return Math.ceil(rows / Math.max(1, Math.round(rows / TRELLIS_ROWS)))
}

/** The bits per value aimed at when neither `bpv` nor `groupSize` is given. */
export function defaultBpv({ bits, scaleBlockSize }: LayoutSettings): number {
  const scales = scaleBlockSize === undefined ? 0 : SCALE_BITS / scaleBlockSize
  return bits + 0.0625 + Math.max(0.0625, scales)
}

/** To four digits and up, so that the figure an error names is one that works. */
function roundedUp(bits: number): number {
  return Math.ceil(bits * 1e4) / 1e4
}

/** The least number of rows that fits, given that all of them fit. Fewer row groups never take more bits. */
function fewestRows(rows: number, fits: (count: number) => boolean): number {
  let low = 1
  let high = rows
  while (low < high) {
    const middle = (low + high) >> 1
    if (fits(middle)) high = middle
    else low = middle + 1
  }
  return low
}

/** Rows of a trellis' group where nothing else is said. */
const TRELLIS_ROWS = 256

/** Bits of a codebook's bfloat16 scale. */
const CODEBOOK_SCALE_BITS = 16

/** Bits of all packed arrays of a layer of this layout. */
export function storedBits(
  layout: VqLayout,
  { codebookBits, columnOrder }: Pick<LayoutSettings, 'codebookBits' | 'columnOrder'>,
): number {
  const indexBytes = layout.rows * packedRowBytes(vectorsPerRow(layout), indexBitsOf(layout))
  const groups = rowGroupsOf(layout) * columnGroupsOf(layout)
  const codebook = isTrellis(layout) ? 0 : centroidsOf(layout) * layout.vectorDim * codebookBits
  const codebooks = groups * (codebook + CODEBOOK_SCALE_BITS)
  const perRow = blocksPerRow(layout)
  const scales = perRow > 0 ? 8 * layout.rows * packedRowBytes(perRow, SCALE_BITS) + RATIO_BITS : 0
  const permutation = columnOrder === 'natural' ? 0 : 8 * permutationBytes(layout.cols)
  return 8 * indexBytes + codebooks + scales + permutation
}
