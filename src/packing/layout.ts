import { MOST_KEY_BITS } from '../codebook/constant-codebook.js'
import { OptionError } from '../common/errors.js'
import { packedRowBytes } from '../kernels/bits.js'
import { RATIO_BITS, SCALE_BITS } from './block-scales.js'
import type { LayoutSettings } from './layout-options.js'
import { permutationBytes } from './permutation.js'
import { widthBytes } from './trellis-keys.js'
import {
  blocksPerRow,
  centroidsOf,
  columnGroupsOf,
  indexRowBytes,
  isTrellis,
  rowGroupsOf,
  type VqLayout,
  vectorsPerRow,
} from './vq-layer.js'

/**
 * How a layer of rows x cols is cut under the settings: a group is `columnsPerGroup` columns (fewer where the layer
 * is narrower) by as many rows as `groupSize` gives or `bpv` allows. The indices of a trellis have as many bits as `bpv`
 * leaves to them, in all columns about the same.
 *
 * @throws OptionError when `bpv` cannot be met, naming the least that can be, or is more than a trellis can make use of,
 *   naming the most, or a group holds no whole vector
 */
export function layoutOf(rows: number, cols: number, settings: LayoutSettings): VqLayout {
  const { vectorDim, bits, groupSize, bpv, scaleBlockSize } = settings
  const paddedCols = Math.ceil(cols / vectorDim) * vectorDim
  const columnsPerGroup = Math.min(settings.columnsPerGroup, paddedCols)
  const cut = (rowsPerGroup: number): VqLayout => ({
    rows,
    cols,
    vectorDim,
    bits,
    columnsPerGroup,
    rowsPerGroup,
    ...(scaleBlockSize !== undefined && { scaleBlockSize }),
  })
  const given = groupSize && Math.min(rows, Math.floor(groupSize / columnsPerGroup))
  const target = bpv ?? defaultBpv(settings)
  // whole bits: 1.4 bits of 25 weights are 35, though 1.4 * 25 in floating point may fall short of it
  const allowed = Math.floor(target * rows * cols * (1 + 1e-12))
  if (settings.trellisBits > 0) return withTrellis(cut(given ?? evenRows(rows)), settings, allowed)
  if (given !== undefined) return cut(given)
  const whole = cut(rows)
  const least = storedBits(whole, settings)
  if (least > allowed) {
    if (bpv === undefined) return whole
    throw unreachable(whole, settings, least)
  }
  return cut(fewestRows(rows, (count) => storedBits(cut(count), settings) <= allowed))
}

/** Gives a layout a trellis whose indices take what `allowed` bits of a layer leave to them. */
function withTrellis(layout: VqLayout, settings: LayoutSettings, allowed: number): VqLayout {
  const { bits, trellisBits, indexWidths, bpv, groupSize } = settings
  const vectors = vectorsPerRow(layout)
  const keyBits = Math.round(bits * layout.vectorDim) + trellisBits
  const of = (total: number): VqLayout => ({
    ...layout,
    bits: total / (vectors * layout.vectorDim),
    trellis: { keyBits, widths: evenWidths(vectors, total) },
  })
  const fewest = indexWidths === 'same' ? vectors * bits * layout.vectorDim : vectors
  const least = storedBits(of(fewest), settings)
  if (bpv !== undefined && least > allowed) throw unreachable(of(fewest), settings, least)
  if (indexWidths === 'same') return of(fewest)
  if (bpv !== undefined) requireUse(of(vectors * keyBits), settings, bpv)
  const nominal = Math.round(bits * vectors * layout.vectorDim)
  if (groupSize !== undefined) return of(nominal)
  // rows are whole bytes
  const rowBytes = indexRowBytes(of(fewest)) + Math.floor((allowed - least) / (8 * layout.rows))
  const total = Math.min(8 * rowBytes, vectors * keyBits)
  // where nobody asked for less, a small layer takes more bits per value
  return of(bpv === undefined ? Math.max(nominal, total) : total)
}

/** Layers differ in what they store beside indices: a bpv is refused only where it is more than this over the most. */
const ROOM_FOR_OVERHEAD = 1.01

/** Refuses bits per value that the longest indices would leave unused. @param longest the layout with these */
function requireUse(longest: VqLayout, settings: LayoutSettings, bpv: number): void {
  const { rows, cols, vectorDim, trellis } = longest
  const most = storedBits(longest, settings) / (rows * cols)
  if (bpv <= ROOM_FOR_OVERHEAD * most) return
  const { keyBits } = trellis!
  const more = keyBits < MOST_KEY_BITS ? ', raise trellisBits' : ''
  throw new OptionError(
    'bpv',
    `${bpv} is more than the ${roundedUp(most)} that a trellis of ${keyBits} bits with vectorDim ` +
      `${vectorDim} can make use of in a ${rows} x ${cols} layer; lower bpv${vectorDim > 1 ? ' or vectorDim' : ''}${more}, ` +
      'or take plain codebooks (trellisBits 0)',
  )
}

/** Widths of `total` bits that differ by one at most. */
function evenWidths(vectors: number, total: number): Uint8Array {
  return Uint8Array.from({ length: vectors }, (_, v) => {
    return Math.floor(((v + 1) * total) / vectors) - Math.floor((v * total) / vectors)
  })
}

function unreachable(layout: VqLayout, { bpv, bits }: LayoutSettings, least: number): OptionError {
  const { rows, cols, vectorDim, columnsPerGroup, scaleBlockSize } = layout
  return new OptionError(
    'bpv',
    `${bpv} cannot be met by a ${rows} x ${cols} layer with vectorDim ${vectorDim} and ${bits} bits: ` +
      `one codebook per ${columnsPerGroup} columns${scaleBlockSize ? ` and a scale per ${scaleBlockSize} weights` : ''} ` +
      `already takes ${roundedUp(least / (rows * cols))}; ` +
      `raise bpv or ${scaleBlockSize ? 'scaleBlockSize (or none)' : 'columnsPerGroup'}, or lower bits or vectorDim`,
  )
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
  const indexBytes =
    layout.rows * indexRowBytes(layout) + (layout.trellis ? widthBytes(vectorsPerRow(layout)) : 0)
  const groups = rowGroupsOf(layout) * columnGroupsOf(layout)
  const codebook = isTrellis(layout) ? 0 : centroidsOf(layout) * layout.vectorDim * codebookBits
  const codebooks = groups * (codebook + CODEBOOK_SCALE_BITS)
  const perRow = blocksPerRow(layout)
  const scales = perRow > 0 ? 8 * layout.rows * packedRowBytes(perRow, SCALE_BITS) + RATIO_BITS : 0
  const permutation = columnOrder === 'natural' ? 0 : 8 * permutationBytes(layout.cols)
  return 8 * indexBytes + codebooks + scales + permutation
}
