import { ShapeError } from '../../common/errors.js'
import { packedRowBytes, raggedRowBytes, unpackIndices, unpackRagged } from '../bits.js'
import type { Block } from '../contract.js'
import { halfToFloat } from '../half.js'
import {
  type CodebookValues,
  FEW_ROUNDED,
  type GridValues,
  type PackedActivations,
  type PackedKernels,
  type PackedSource,
  type PackedWeight,
  readsTables,
  type Segment,
  segmentsOf,
} from '../packed-contract.js'
import type { TrellisColumns } from '../trellis-contract.js'
import { roundActivations, unitsOf } from './packed-activations.js'
import { multiplyTransposedAdd } from './product.js'

/** Values of a weight that are expanded at once, about. */
const EXPANDED_VALUES = 2 ** 18

interface ReferenceWeight extends PackedWeight {
  source: PackedSource | undefined
}

/** Products with packed weights by expanding some rows after the others. */
export const referencePacked: PackedKernels = {
  preparePacked(source) {
    const weight: ReferenceWeight = {
      rows: source.rows,
      cols: source.cols,
      bytes: source.codes.byteLength,
      source,
    }
    return weight
  },
  releasePacked(weight) {
    requireSource(weight)
    ;(weight as ReferenceWeight).source = undefined
  },
  multiplyPacked(m, x, weight, y, activations = 'float32') {
    const source = requireSource(weight)
    const { rows, cols } = source
    const segments = segmentsOf(source)
    const isTables = activations === 'int8' && readsTables(source, segments)
    if (isTables && m <= FEW_ROUNDED) {
      multiplyTables(m, storedOrder(m, x, source, 'float32'), source, segments, y)
      return
    }
    const fineness = isTables ? 'int16' : activations
    const input = storedOrder(m, x, source, hasFloats(source) ? 'float32' : fineness)
    const step = Math.max(1, Math.floor(EXPANDED_VALUES / cols))
    for (let i = 0; i < m; i++) y.data.fill(0, y.offset + i * y.stride, y.offset + i * y.stride + rows)
    for (let first = 0; first < rows; first += step) {
      const count = Math.min(step, rows - first)
      const expanded = expandPacked(source, first, count)
      multiplyTransposedAdd(
        ...([
          m,
          count,
          cols,
          1,
          input,
          0,
          cols,
          expanded,
          0,
          cols,
          y.data,
          y.offset + first,
          y.stride,
        ] as const),
      )
    }
  },
}

function requireSource(weight: PackedWeight): PackedSource {
  const source = (weight as Partial<ReferenceWeight>).source
  if (source !== undefined) return source
  throw new ShapeError(
    `a packed weight of ${weight.rows} x ${weight.cols} is not there any more: it was released, or other kernels prepared it`,
  )
}

/** Largest magnitude of an activation whose products are read from tables, and what those are rounded to multiples of. */
const TABLE_LARGEST = 16383
const TABLE_UNIT = 128

/** Few rows of X, m x cols in stored order, as {@link readsTables} has it: products with elements are rounded, half up. */
function multiplyTables(
  m: number,
  x: Float32Array,
  source: PackedSource,
  segments: readonly Segment[],
  y: Block,
): void {
  const { rows, cols } = source
  const values = source.values as CodebookValues
  const { rowsPerGroup, columnsPerGroup, scales, blocks } = values
  const bare = { ...source, values: { ...values, scales: scales.map(() => 1), blocks: undefined } }
  const rounded = Array.from({ length: m }, (_, i) =>
    segments.map(({ start, end }) => unitsOf(x.subarray(i * cols + start, i * cols + end), TABLE_LARGEST)),
  )
  for (let row = 0; row < rows; row++) {
    const elements = expandPacked(bare, row, 1)
    const group = Math.floor(row / rowsPerGroup) * Math.ceil(cols / columnsPerGroup)
    for (let i = 0; i < m; i++) {
      let total = 0
      for (const [s, segment] of segments.entries()) {
        const { units, step } = rounded[i][s]
        const factor =
          scales[group + segment.group] * (blocks ? levelOf(blocks, cols, row, segment.start) : 1)
        let sum = 0
        for (const [j, own] of units.entries()) {
          sum += Math.floor((elements[segment.start + j] * own) / TABLE_UNIT + 0.5)
        }
        total += sum * TABLE_UNIT * step * factor
      }
      y.data[y.offset + i * y.stride + row] = total
    }
  }
}

/** Whether elements are floats themselves: then nothing is rounded. */
function hasFloats({ values }: PackedSource): boolean {
  return values.kind === 'codebooks' && values.elements instanceof Float32Array
}

/** X, m x cols, its columns in the order of the codes, rounded as `activations` says. */
function storedOrder(
  m: number,
  x: Block,
  source: PackedSource,
  activations: PackedActivations,
): Float32Array {
  const { cols, permutation } = source
  const ordered = new Float32Array(m * cols)
  for (let i = 0; i < m; i++) {
    const from = x.offset + i * x.stride
    for (let j = 0; j < cols; j++) ordered[i * cols + j] = x.data[from + (permutation ? permutation[j] : j)]
  }
  for (const { start, end } of activations === 'float32' ? [] : segmentsOf(source)) {
    for (let i = 0; i < m; i++) {
      const own = ordered.subarray(i * cols, (i + 1) * cols)
      const scaled = own.map((value, j) => value * factorOf(source, j)).subarray(start, end)
      roundActivations(scaled, activations as 'int8' | 'int16')
      for (const [j, value] of scaled.entries()) own[start + j] = value / factorOf(source, start + j)
    }
  }
  return ordered
}

/** What a trellis multiplies the weights of a column by. */
function factorOf({ values }: PackedSource, column: number): number {
  if (values.kind === 'grid' || !values.trellis) return 1
  return values.trellis.factors[Math.floor(column / values.vectorDim)]
}

/** The float32 weights of rows `first` to `first + count - 1`, columns in the order of the codes. */
export function expandPacked(source: PackedSource, first: number, count: number): Float32Array {
  const { cols, values } = source
  const expanded = new Float32Array(count * cols)
  if (values.kind === 'grid') expandGrid(source, values, first, expanded)
  else expandCodebooks(source, values, first, expanded)
  return expanded
}

/** The codes of some rows, `perRow` a row, or as many as the trellis has columns. */
function codesOf(
  { codes, codeBits }: PackedSource,
  perRow: number,
  first: number,
  count: number,
  trellis?: TrellisColumns,
): Uint16Array {
  const unpacked = new Uint16Array(count * perRow)
  const rowBytes = trellis ? raggedRowBytes(trellis.widths) : packedRowBytes(perRow, codeBits)
  const own = codes.subarray(first * rowBytes)
  if (trellis) unpackRagged(own, count, trellis.widths, unpacked)
  else unpackIndices(own, count, perRow, codeBits, unpacked)
  return unpacked
}

function expandGrid(source: PackedSource, grid: GridValues, first: number, expanded: Float32Array): void {
  const { cols } = source
  const { groupSize, scales, zeros } = grid
  const groups = Math.ceil(cols / groupSize)
  const codes = codesOf(source, cols, first, expanded.length / cols)
  for (let at = 0; at < expanded.length; at++) {
    const group = (first + Math.floor(at / cols)) * groups + Math.floor((at % cols) / groupSize)
    expanded[at] = (codes[at] - zeros[group]) * halfToFloat(scales[group])
  }
}

function expandCodebooks(
  source: PackedSource,
  values: CodebookValues,
  first: number,
  expanded: Float32Array,
): void {
  const { cols, codeBits } = source
  const { vectorDim: d, trellis, rowsPerGroup, columnsPerGroup, elements, scales, blocks } = values
  const perRow = Math.ceil(cols / d)
  const columnGroups = Math.ceil(cols / columnsPerGroup)
  // no code tells of more rows than a number has bits
  const above = Math.min(first % rowsPerGroup, trellis?.stateBits ?? 0)
  const count = expanded.length / cols
  const codes = codesOf(source, perRow, first - above, above + count, trellis)
  const size = trellis ? 0 : 2 ** codeBits * d
  const mask = 2 ** (trellis?.stateBits ?? codeBits) - 1
  const numbers = new Uint16Array(perRow)
  for (let i = 0; i < above + count; i++) {
    const row = first - above + i
    if (row % rowsPerGroup === 0 || !trellis) numbers.fill(0)
    for (let v = 0; v < perRow; v++) {
      numbers[v] = ((numbers[v] << (trellis?.widths[v] ?? 0)) | codes[i * perRow + v]) & mask
    }
    for (let j = 0; i >= above && j < cols; j++) {
      const group = Math.floor(row / rowsPerGroup) * columnGroups + Math.floor(j / columnsPerGroup)
      const vector = Math.floor(j / d)
      const at = (i - above) * cols + j
      expanded[at] = elements[group * size + d * numbers[vector] + (j % d)] * scales[group]
      if (trellis) expanded[at] *= trellis.factors[vector]
      if (blocks) expanded[at] *= levelOf(blocks, cols, row, j)
    }
  }
}

function levelOf(
  { size, codes, levels }: NonNullable<CodebookValues['blocks']>,
  cols: number,
  row: number,
  column: number,
): number {
  const perRow = Math.ceil(cols / size)
  const block = Math.floor(column / size)
  const byte = codes[row * packedRowBytes(perRow, 4) + (block >> 1)]
  return levels[(byte >> (4 * (block & 1))) & 15]
}
