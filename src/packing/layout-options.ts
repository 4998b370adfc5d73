import { MOST_KEY_BITS } from '../codebook/constant-codebook.js'
import type { CodebookBits } from '../codebook/store-codebook.js'
import { isWithin, requireOneOf, requireWhole } from '../common/check-option.js'
import { OptionError } from '../common/errors.js'
import { shownValue } from '../common/shown-value.js'
import { type ScaleBlockSize, scaleBlockSizes } from './block-scales.js'

/** The order in which the columns of a layer are quantized, and in which vectors and groups are formed. */
export type ColumnOrder = 'natural' | 'activation'

/** How the bits of a trellis' indices are shared out among columns of vectors. */
export type IndexWidths = 'fitted' | 'same'

/** How a layer is cut into vectors and groups. */
export interface LayoutOptions {
  /**
   * Weights per vector: 1, 2 (default) or 4. `quantizeLayer` and `quantizeModel` take 1 by default where `bpv` (or `bits +
   * 0.125`) is 3.875 or more, and neither `trellisBits` is given nor an option of plain codebooks.
   */
  vectorDim?: 1 | 2 | 4
  /**
   * Index bits per weight, 1 to 8, default 2; a codebook has `k = 2^(bits * vectorDim)` centroids, at most 65536. With
   * `trellisBits` any number of at least `1 / vectorDim`, such as 1.5.
   */
  bits?: number
  /**
   * A trellis code where above 0: a centroid is named by a vector's own index and by as many bits of those of the rows
   * above it. The codebook of `2^(bits * vectorDim + trellisBits)` centroids (the exponent rounded), at most 4096, is one
   * that the library has, so that a group stores its scale alone; a group then has about 256 rows where nothing else is
   * said, and the bits of indices are what meets `bpv`. 0: plain codebooks, fitted to the layer. `quantizeLayer` and
   * `quantizeModel` take 12 bits in all by default; 0 with more than 10 bits an index (11 where `bits` are not whole), or
   * where an option is given that belongs to plain codebooks (`kmeans...`, `restarts`, `codebookUpdateSteps`, 16
   * `codebookBits`).
   */
  trellisBits?: number
  /**
   * With `trellisBits`: `'fitted'` (default) gives the columns of vectors that lose most longer indices than others, as
   * many bits in all; their widths are stored, 4 bits a column of vectors. `'same'` gives all the same, `bits *
   * vectorDim`, which must be whole; it does not go with bits that are mixed.
   */
  indexWidths?: IndexWidths
  /**
   * Weights per codebook, a multiple of `columnsPerGroup`. With a trellis the streams of indices start anew in each group,
   * and their first rows are worse than the rest: groups of fewer than 64 rows spoil what a trellis gains, so leave it
   * out there. Excludes `bpv`.
   */
  groupSize?: number
  /** Columns per group, default 256 (or `groupSize` where that is less), a multiple of `vectorDim`. */
  columnsPerGroup?: number
  /**
   * Bits per value at most, all stored bytes counted. With a trellis the bits of indices meet it, and more than these
   * can make use of is refused; with `indexWidths: 'same'` it is a limit alone, since `bits` say what is stored. With plain
   * codebooks it picks the smallest groups that keep within it. Excludes `groupSize`. When neither is given, `bits + 0.125`
   * (with block scales of fewer than 64 weights `bits + 0.0625 + 4 / scaleBlockSize`), or what a layer takes that is too
   * small for it.
   */
  bpv?: number
  /** Bits of a stored codebook element: 8 (default) or 16. */
  codebookBits?: CodebookBits
  /**
   * Consecutive weights of a row that share a 4-bit scale: 16, 32, 64 or 128; `columnsPerGroup` must be a multiple. Or
   * `'none'`. Default: 64; `'none'` where `columnsPerGroup` is no multiple of 64, or `bpv` leaves too little room: less
   * than `bits + 0.1`, with a trellis less than `1 / vectorDim + 0.07` (with `indexWidths: 'same'` than `bits + 0.07`).
   */
  scaleBlockSize?: ScaleBlockSize | 'none'
  /**
   * `'natural'` (default), or `'activation'`: columns by falling diagonal of the Hessian. Their order is stored, with
   * `ceil(log2(columns))` bits a column.
   */
  columnOrder?: ColumnOrder
}

/** {@link LayoutOptions} after validation, defaults filled in. */
export interface LayoutSettings {
  readonly vectorDim: 1 | 2 | 4
  readonly bits: number
  /** 0: no trellis. */
  readonly trellisBits: number
  readonly indexWidths: IndexWidths
  readonly groupSize: number | undefined
  readonly columnsPerGroup: number
  readonly bpv: number | undefined
  readonly codebookBits: CodebookBits
  /** Undefined: no scales. */
  readonly scaleBlockSize: ScaleBlockSize | undefined
  readonly columnOrder: ColumnOrder
}

/** Bits of an index that leave one to the rows above. */
export const MOST_INDEX_BITS = MOST_KEY_BITS - 1

/** At equal bits better than none, and than most other sizes, for 1 to 4 bits in 1, 2 and 4 dimensions (docs/settings.md). */
const DEFAULT_SCALE_BLOCK = 64
/** Bits per value beside the indices below which scales would leave too little to codebooks. */
const LEAST_OVERHEAD_WITH_SCALES = 0.1
/** The same for a trellis, which stores no codebooks. */
const LEAST_TRELLIS_OVERHEAD = 0.07

/**
 * Checks the options and fills in the defaults.
 *
 * @throws OptionError naming the option, what it is, and what it can be
 */
export function resolveLayoutOptions(options: LayoutOptions): LayoutSettings {
  const { vectorDim = 2, bits = 2, trellisBits = 0, groupSize, bpv, codebookBits = 8 } = options
  const { columnOrder = 'natural', indexWidths = 'fitted' } = options
  requireOneOf('vectorDim', vectorDim, [1, 2, 4])
  requireOneOf('codebookBits', codebookBits, [8, 16])
  requireWhole('trellisBits', trellisBits, 0, MOST_INDEX_BITS)
  requireOneOf('indexWidths', indexWidths, ['fitted', 'same'])
  if (trellisBits > 0) requireTrellis(bits, vectorDim, trellisBits, codebookBits, indexWidths)
  else requirePlainBits(bits, vectorDim)
  if (trellisBits === 0 && indexWidths === 'same') {
    throw new OptionError(
      'indexWidths',
      "'same' belongs to trellis codes; set trellisBits above 0 or leave it out",
    )
  }
  const indexBits = bits * vectorDim
  if (indexBits > 16) {
    throw new OptionError(
      'bits',
      `${bits} bits in ${vectorDim} dimensions make ${2 ** indexBits} centroids, at most 65536 are possible; ` +
        `use ${16 / vectorDim} bits or fewer, or a smaller vectorDim`,
    )
  }
  requireOneOf('columnOrder', columnOrder, ['natural', 'activation'])
  const stored = trellisBits > 0 ? 1 : 2 ** indexBits
  if (groupSize !== undefined) requireGroupSize(groupSize, vectorDim, stored, bpv)
  const fewestBits = trellisBits > 0 && indexWidths === 'fitted' ? 1 / vectorDim : bits
  if (bpv !== undefined && !(Number.isFinite(bpv) && bpv > fewestBits)) {
    throw new OptionError(
      'bpv',
      `expected more than the ${fewestBits} index bits per weight, got ${shownValue(bpv)}`,
    )
  }
  const columnsPerGroup = resolveColumnsPerGroup(options.columnsPerGroup, groupSize, vectorDim)
  const least = trellisBits > 0 ? fewestBits + LEAST_TRELLIS_OVERHEAD : bits + LEAST_OVERHEAD_WITH_SCALES
  const scaleBlockSize = resolveScaleBlocks(options.scaleBlockSize, columnsPerGroup, least, bpv)
  return {
    vectorDim,
    bits,
    trellisBits,
    indexWidths,
    groupSize,
    columnsPerGroup,
    bpv,
    codebookBits,
    scaleBlockSize,
    columnOrder,
  }
}

function requirePlainBits(bits: number, vectorDim: number): void {
  if (Number.isFinite(bits) && !Number.isInteger(bits) && bits > 1 && bits < 8) {
    throw new OptionError(
      'bits',
      `expected a whole number from 1 to 8, got ${bits}: that is what plain codebooks have; a trellis takes any ` +
        `number up to 8 whose product with vectorDim (${vectorDim}) rounds to ${MOST_INDEX_BITS} at most, as long as no ` +
        'option asks for plain codebooks',
    )
  }
  requireWhole('bits', bits, 1, 8)
}

function requireTrellis(
  bits: number,
  vectorDim: number,
  trellisBits: number,
  codebookBits: number,
  indexWidths: IndexWidths,
): void {
  const isInRange = isWithin(bits, 1 / vectorDim, 8)
  const fits = isInRange && (indexWidths === 'fitted' || Number.isInteger(bits * vectorDim))
  const whole = indexWidths === 'same' ? ` that makes bits times vectorDim (${vectorDim}) whole` : ''
  if (!fits) {
    throw new OptionError(
      'bits',
      `expected a number from ${1 / vectorDim} to 8${whole}, got ${shownValue(bits)}`,
    )
  }
  const indexBits = Math.round(bits * vectorDim)
  if (indexBits + trellisBits > MOST_KEY_BITS) {
    const most = MOST_KEY_BITS - indexBits
    throw new OptionError(
      'trellisBits',
      `${trellisBits} bits of the rows above and ${indexBits} of an index make ${2 ** (indexBits + trellisBits)} ` +
        `centroids, at most ${2 ** MOST_KEY_BITS} are possible; use ` +
        (most > 0 ? `${most} or fewer` : '0, or fewer bits or a smaller vectorDim'),
    )
  }
  if (codebookBits !== 8) {
    throw new OptionError('codebookBits', `the codebook of a trellis has 8 bits, got ${codebookBits}`)
  }
}

function resolveScaleBlocks(
  scaleBlockSize: ScaleBlockSize | 'none' | undefined,
  columnsPerGroup: number,
  least: number,
  bpv = Number.POSITIVE_INFINITY,
): ScaleBlockSize | undefined {
  if (scaleBlockSize === 'none') return undefined
  if (scaleBlockSize === undefined) {
    const fits = columnsPerGroup % DEFAULT_SCALE_BLOCK === 0 && bpv >= least
    return fits ? DEFAULT_SCALE_BLOCK : undefined
  }
  requireOneOf('scaleBlockSize', scaleBlockSize, ['none', ...scaleBlockSizes])
  if (columnsPerGroup % scaleBlockSize !== 0) {
    throw new OptionError(
      'scaleBlockSize',
      `blocks of ${scaleBlockSize} weights do not fill columnsPerGroup (${columnsPerGroup}); ` +
        `make columnsPerGroup a multiple of ${scaleBlockSize}, or scaleBlockSize smaller or 'none'`,
    )
  }
  return scaleBlockSize
}

function requireGroupSize(groupSize: number, vectorDim: number, k: number, bpv: number | undefined): void {
  requireWhole('groupSize', groupSize, 1)
  if (bpv !== undefined) {
    throw new OptionError(
      'bpv',
      `choose bpv (${bpv}) or groupSize (${groupSize}), not both: bpv picks a group size`,
    )
  }
  if (groupSize < vectorDim) {
    throw new OptionError(
      'groupSize',
      `a group of ${groupSize} weights is smaller than a vector of ${vectorDim}`,
    )
  }
  const vectors = groupSize / vectorDim
  if (k > vectors) {
    throw new OptionError(
      'groupSize',
      `a group of ${groupSize} weights has ${vectors} vectors, fewer than its ${k} centroids; ` +
        `use at least ${k * vectorDim}, or fewer bits`,
    )
  }
}

function resolveColumnsPerGroup(
  columnsPerGroup: number | undefined,
  groupSize: number | undefined,
  vectorDim: number,
): number {
  const columns = columnsPerGroup === undefined ? Math.min(256, groupSize ?? 256) : columnsPerGroup
  requireWhole('columnsPerGroup', columns, vectorDim)
  const culprit = columnsPerGroup === undefined ? 'groupSize' : 'columnsPerGroup'
  if (columns % vectorDim !== 0) {
    throw new OptionError(culprit, `expected a multiple of vectorDim (${vectorDim}), got ${columns}`)
  }
  if (groupSize !== undefined && groupSize % columns !== 0) {
    throw new OptionError(
      'groupSize',
      `expected a multiple of columnsPerGroup (${columns}), got ${groupSize}: a group is whole rows of its columns`,
    )
  }
  return columns
}
