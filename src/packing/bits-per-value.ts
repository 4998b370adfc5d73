import { requireFields } from '../common/check-option.js'
import type { PackedLayer } from './pack-layer.js'
import type { PackedScalarLayer } from './scalar-layer.js'

/** Stored bits divided by the number of weights, by what they are spent on. */
export interface BitsPerValue {
  /** Indices, or the codes of a scalar layer. */
  readonly index: number
  /** Codebook elements; 0 for a scalar layer. */
  readonly codebook: number
  /** Scales of codebooks and blocks, or of scalar groups. */
  readonly scale: number
  /** All else: the order of columns, the widths of a trellis' indices, or the zero points of a scalar layer. */
  readonly other: number
  /** The sum of the above. */
  readonly total: number
}

/** Bits per value of a layer, counted from the bytes of its packed arrays, so that nothing is left out. */
export function bitsPerValue(packed: PackedLayer | PackedScalarLayer): BitsPerValue {
  requirePacked(packed)
  if ('layout' in packed) {
    const { layout, indices, codebooks } = packed
    return share(layout.rows * layout.cols, [indices], [codebooks], scalesOf(packed), othersOf(packed))
  }
  return share(packed.rows * packed.cols, [packed.codes], [], [packed.scales], [packed.zeros])
}

/** Bytes of all packed arrays of a layer. */
export function packedBytes(packed: PackedLayer | PackedScalarLayer): number {
  requirePacked(packed)
  return 'layout' in packed
    ? bytesOf([packed.indices, packed.codebooks, ...scalesOf(packed), ...othersOf(packed)])
    : bytesOf([packed.codes, packed.scales, packed.zeros])
}

type Stored = readonly ArrayBufferView[]

function scalesOf({ codebookScales, blockScales }: PackedLayer): Stored {
  return blockScales ? [codebookScales, blockScales.codes, blockScales.ratio] : [codebookScales]
}

function othersOf({ permutation, widths }: PackedLayer): Stored {
  return [permutation, widths].filter((stored) => stored !== undefined)
}

function bytesOf(stored: Stored): number {
  return stored.reduce((sum, { byteLength }) => sum + byteLength, 0)
}

function share(
  weights: number,
  indices: Stored,
  codebooks: Stored,
  scales: Stored,
  others: Stored,
): BitsPerValue {
  const bits = (stored: Stored) => (8 * bytesOf(stored)) / weights
  const [index, codebook, scale, other] = [indices, codebooks, scales, others].map(bits)
  return { index, codebook, scale, other, total: index + codebook + scale + other }
}

function requirePacked(packed: PackedLayer | PackedScalarLayer): void {
  requireFields(packed, 'a layer that packLayer or packScalar gave', [])
  const fields =
    'layout' in packed ? ['layout', 'indices', 'codebooks', 'codebookScales'] : ['codes', 'scales', 'zeros']
  requireFields(packed, 'a layer that packLayer or packScalar gave', fields)
}
