import { SCALE_BITS } from '../../packing/block-scales.js'
import { layoutOf, storedBits } from '../../packing/layout.js'
import type { LayoutSettings } from '../../packing/layout-options.js'
import {
  centroidsOf,
  indexRowBytes,
  rowGroupsOf,
  type VqLayout,
  vectorsPerRow,
} from '../../packing/vq-layer.js'
import type { LayerBits } from './options.js'

/** One way to quantize a layer, and what it takes. */
export interface LayerCandidate extends Required<LayerBits> {
  readonly bytes: number
}

/** Index bits of a vector at most: larger codebooks take too long to try. */
const MOST_INDEX_BITS = 8
/** Bits over those of the budget that a layer may get. */
export const MOST_BITS_ABOVE = 2

/** Bits per value of the codebooks of the largest groups tried: still larger ones save next to nothing. */
const LEAST_OVERHEAD = 1 / 32
/** Bits per value of the codebooks of the smallest groups tried. */
const MOST_OVERHEAD = 1 / 2
/** The same of a single group, where it is all that a small layer can have. */
const MOST_SINGLE_OVERHEAD = 1

/**
 * What a layer of rows x cols can be quantized to: each number of bits around the budget with several sizes of groups,
 * each size half of the one before. With a trellis one list: indices of more and more bits on average.
 *
 * @param settings of the layout; its `bits`, `bpv` and `groupSize` count for nothing
 * @param budget bits per value of the whole model
 * @returns a list for each number of bits, with a trellis a single one, bytes rising in each
 */
export function layerCandidates(
  rows: number,
  cols: number,
  settings: LayoutSettings,
  budget: number,
): LayerCandidate[][] {
  if (settings.trellisBits > 0) return [widthsOfTrellis(rows, cols, settings, budget)]
  const most = Math.min(
    Math.floor(MOST_INDEX_BITS / settings.vectorDim),
    Math.floor(budget) + MOST_BITS_ABOVE,
  )
  return Array.from({ length: most }, (_, i) => groupSizes(rows, cols, settings, i + 1)).filter(
    (sizes) => sizes.length > 0,
  )
}

/**
 * Index bits per weight that a layer gets at least, as long as the budget is twice as many: with fewer all columns come down to
 * the same width, and a layer whose inputs differ much loses far more than the error of the codebook says.
 */
const LEAST_TRELLIS_BITS = 1
/** Index bits per weight between two candidates. */
const WIDTH_STEP = 1 / 16

function widthsOfTrellis(
  rows: number,
  cols: number,
  settings: LayoutSettings,
  budget: number,
): LayerCandidate[] {
  const layout = layoutOf(rows, cols, { ...settings, bpv: undefined, groupSize: undefined })
  const { keyBits } = layout.trellis!
  const vectors = vectorsPerRow(layout)
  const others = storedBits(layout, settings) / 8 - rows * indexRowBytes(layout)
  const most = Math.min(keyBits, (budget + MOST_BITS_ABOVE) * settings.vectorDim)
  const least = Math.max(1, Math.min(LEAST_TRELLIS_BITS, budget / 2) * settings.vectorDim)
  const step = Math.max(1, Math.round((WIDTH_STEP * cols) / 8))
  const candidates: LayerCandidate[] = []
  for (
    let rowBytes = Math.ceil((least * vectors) / 8);
    rowBytes <= Math.ceil((most * vectors) / 8);
    rowBytes += step
  ) {
    const bytes = others + rows * rowBytes
    const bits = Math.min(8 * rowBytes, vectors * keyBits) / (vectors * settings.vectorDim)
    candidates.push({ bits, bpv: (8 * bytes) / (rows * cols), bytes })
  }
  return candidates
}

function groupSizes(rows: number, cols: number, settings: LayoutSettings, bits: number): LayerCandidate[] {
  const any = layoutOf(rows, cols, { ...settings, bits, bpv: undefined, groupSize: undefined })
  const sizes = halvings(any).map((layout) => {
    const stored = storedBits(layout, settings)
    const bpv = stored / (rows * cols)
    const scales = settings.scaleBlockSize === undefined ? 0 : SCALE_BITS / settings.scaleBlockSize
    return { layout, candidate: { bits, bpv, bytes: stored / 8 }, overhead: bpv - bits - scales }
  })
  return sizes
    .filter(({ layout, overhead }, i) => {
      if (centroidsOf(layout) > vectorsOfGroup(layout)) return false
      if (i === 0 && overhead > LEAST_OVERHEAD) return bits === 1 || overhead <= MOST_SINGLE_OVERHEAD
      const next = sizes[i + 1]
      return overhead <= MOST_OVERHEAD && !(next !== undefined && next.overhead <= LEAST_OVERHEAD)
    })
    .map(({ candidate }) => candidate)
}

/** The same layout with one group of rows, two, four and so on. */
function halvings(layout: VqLayout): VqLayout[] {
  const { rows } = layout
  const cuts: VqLayout[] = []
  for (let groups = 1; groups <= rows; groups *= 2) {
    const cut = { ...layout, rowsPerGroup: Math.ceil(rows / groups) }
    if (cuts.length === 0 || rowGroupsOf(cut) > rowGroupsOf(cuts[cuts.length - 1])) cuts.push(cut)
  }
  return cuts
}

function vectorsOfGroup({ rowsPerGroup, columnsPerGroup, vectorDim }: VqLayout): number {
  return rowsPerGroup * (columnsPerGroup / vectorDim)
}
