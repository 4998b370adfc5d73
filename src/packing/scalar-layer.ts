import { requireFields } from '../common/check-option.js'
import { NumericError } from '../common/errors.js'
import { type Matrix, matrix } from '../common/matrix.js'
import { packedRowBytes, packIndices, unpackIndices } from '../kernels/bits.js'
import { floatToHalf, halfToFloat } from '../kernels/half.js'
import { requireLength } from './require-length.js'

/**
 * A layer quantized weight by weight: `w = (code - zero) * scale`, scale and zero shared by a run of `groupSize`
 * weights of a row. `zero` is a code of its own; on symmetric grids it is `2^(bits - 1)` everywhere.
 */
export interface ScalarLayer {
  /** Outputs. */
  readonly rows: number
  /** Inputs. */
  readonly cols: number
  /** Bits per code and per zero point, 1 to 8. */
  readonly bits: number
  /** Weights of a row that share a scale; the last group of a row may be smaller. */
  readonly groupSize: number
  /** rows x cols. */
  readonly codes: Uint8Array
  /** Bits of IEEE halves, rows x groups per row. */
  readonly scales: Uint16Array
  /** rows x groups per row. */
  readonly zeros: Uint8Array
}

/** The arrays of a scalar layer exactly as a checkpoint stores them. */
export interface PackedScalarLayer {
  /** Outputs. */
  readonly rows: number
  /** Inputs. */
  readonly cols: number
  /** Bits per code and per zero point, 1 to 8. */
  readonly bits: number
  /** Weights of a row that share a scale; the last group of a row may be smaller. */
  readonly groupSize: number
  /** `bits` bits per code, least significant bit first, rows byte-aligned. */
  readonly codes: Uint8Array
  /** Bits of IEEE halves, rows x groups per row. */
  readonly scales: Uint16Array
  /** `bits` bits per zero point, all rows in one run. */
  readonly zeros: Uint8Array
}

/** Groups in a row of `cols` weights. */
export function groupsPerRow(cols: number, groupSize: number): number {
  return Math.ceil(cols / groupSize)
}

/**
 * The scale and zero point that spread `2^bits` codes over `low` to `high` (both taken together with 0):
 * `scale = (high - low) / (2^bits - 1)` rounded to a half, `zero = round(-low / scale)`.
 *
 * @throws NumericError when the scale is beyond the range of a half
 */
export function scalarGrid(low: number, high: number, bits: number): { scale: number; zero: number } {
  const from = Math.min(0, low)
  const to = Math.max(0, high)
  const largestCode = 2 ** bits - 1
  const spread = to - from
  if (spread === 0) return { scale: floatToHalf(1), zero: 0 }
  const scale = storedScale(spread / largestCode, from, to, bits)
  return { scale, zero: Math.min(largestCode, Math.round((0 - from) / halfToFloat(scale))) }
}

/**
 * The grid with 0 in the middle, codes `-2^(bits - 1)` to `2^(bits - 1) - 1`, that spans `low` to `high`:
 * `scale = max(high / (2^(bits - 1) - 1), -low / 2^(bits - 1))` rounded to a half, `zero = 2^(bits - 1)`. With 2 bits
 * `high / 2` takes the place of `high / 1`, which would leave the lowest code without a use: what is largest is clipped.
 *
 * @throws NumericError when the scale is beyond the range of a half
 */
export function symmetricGrid(low: number, high: number, bits: number): { scale: number; zero: number } {
  const from = Math.min(0, low)
  const to = Math.max(0, high)
  const zero = 2 ** (bits - 1)
  if (from === to) return { scale: floatToHalf(1), zero }
  const above = bits === 2 ? 2 : zero - 1
  return { scale: storedScale(Math.max(to / above, -from / zero), from, to, bits), zero }
}

/** A scale as a half. */
function storedScale(wanted: number, low: number, high: number, bits: number): number {
  // a spread below the smallest half still needs a scale that is not zero
  const scale = Math.max(1, floatToHalf(wanted))
  if (Number.isFinite(halfToFloat(scale))) return scale
  throw new NumericError(
    `weights from ${low} to ${high} with ${bits} bits need a scale of ${wanted}, which no half holds ` +
      '(65504 at most); more bits make it smaller',
  )
}

/** The code nearest to `weight` on a grid. */
export function nearestCode(weight: number, scale: number, zero: number, bits: number): number {
  return Math.max(0, Math.min(2 ** bits - 1, Math.round(weight / scale) + zero))
}

/** The float32 weights (rows x cols) that a scalar layer stands for. */
export function dequantizeScalar(layer: ScalarLayer): Matrix {
  requireFields(layer, 'a layer that quantizeRtn gave', ['codes', 'scales', 'zeros'])
  const { rows, cols, groupSize, codes, scales, zeros } = layer
  const result = matrix(rows, cols)
  const { data } = result
  // a head is dequantized anew for every few hundred positions, so nothing is done per weight that can be done per group
  let group = 0
  for (let row = 0; row < rows * cols; row += cols) {
    for (let start = row; start < row + cols; start += groupSize, group++) {
      const scale = halfToFloat(scales[group])
      const zero = zeros[group]
      const end = Math.min(start + groupSize, row + cols)
      for (let at = start; at < end; at++) data[at] = (codes[at] - zero) * scale
    }
  }
  return result
}

/** Rows `first` to `first + count - 1` of a layer, over the same arrays. */
export function scalarRows(layer: ScalarLayer, first: number, count: number): ScalarLayer {
  const { cols, groupSize, codes, scales, zeros } = layer
  const groups = groupsPerRow(cols, groupSize)
  return {
    ...layer,
    rows: count,
    codes: codes.subarray(first * cols, (first + count) * cols),
    scales: scales.subarray(first * groups, (first + count) * groups),
    zeros: zeros.subarray(first * groups, (first + count) * groups),
  }
}

/** Packs codes and zero points; {@link unpackScalar} gives back the same layer. */
export function packScalar(layer: ScalarLayer): PackedScalarLayer {
  requireFields(layer, 'a layer that quantizeRtn gave', ['codes', 'scales', 'zeros'])
  const { rows, cols, bits, groupSize, scales } = layer
  const groups = groupsPerRow(cols, groupSize)
  const codes = new Uint8Array(rows * packedRowBytes(cols, bits))
  packIndices(layer.codes, rows, cols, bits, codes)
  const zeros = new Uint8Array(packedRowBytes(rows * groups, bits))
  packIndices(layer.zeros, 1, rows * groups, bits, zeros)
  return { rows, cols, bits, groupSize, codes, scales, zeros }
}

/**
 * Checks that the lengths of all arrays follow from shape, bits and group size.
 *
 * @throws ShapeError naming the array that has another
 */
export function requirePackedScalar({
  rows,
  cols,
  bits,
  groupSize,
  codes,
  scales,
  zeros,
}: PackedScalarLayer): void {
  const groups = groupsPerRow(cols, groupSize)
  const owner = `a ${rows} x ${cols} layer with ${bits} bits and groups of ${groupSize}`
  requireLength('codes', codes.length, rows * packedRowBytes(cols, bits), owner)
  requireLength('scales', scales.length, rows * groups, owner)
  requireLength('zeros', zeros.length, packedRowBytes(rows * groups, bits), owner)
}

/** The zero points of a packed layer, rows x groups per row. */
export function unpackZeros({ rows, cols, bits, groupSize, zeros }: PackedScalarLayer): Uint8Array {
  const count = rows * groupsPerRow(cols, groupSize)
  const unpacked = new Uint8Array(count)
  unpackIndices(zeros, 1, count, bits, unpacked)
  return unpacked
}

/**
 * The inverse of {@link packScalar}.
 *
 * @throws ShapeError when an array's length does not follow from shape, bits and group size
 */
export function unpackScalar(packed: PackedScalarLayer): ScalarLayer {
  requireFields(packed, 'a layer that packScalar gave', ['codes', 'scales', 'zeros'])
  requirePackedScalar(packed)
  const { rows, cols, bits, groupSize, scales } = packed
  const codes = new Uint8Array(rows * cols)
  unpackIndices(packed.codes, rows, cols, bits, codes)
  return { rows, cols, bits, groupSize, codes, scales, zeros: unpackZeros(packed) }
}
