import { CONSTANT_CODEBOOK } from '../../codebook/constant-codebook.js'
import type { CodebookElements } from '../../codebook/store-codebook.js'
import { CheckpointError, ShapeError } from '../../common/errors.js'
import { bytesOf } from '../../common/view-bytes.js'
import { packedRowBytes } from '../../kernels/bits.js'
import { bfloatToFloat, halfToFloat } from '../../kernels/half.js'
import { SCALE_BITS } from '../../packing/block-scales.js'
import { type PackedLayer, type PackedScales, unpackWidths } from '../../packing/pack-layer.js'
import { permutationBytes, unpackPermutation } from '../../packing/permutation.js'
import { type PackedQuantizedLayer, type QuantizedLayer, unpack } from '../../packing/quantized-layer.js'
import { groupsPerRow, type PackedScalarLayer } from '../../packing/scalar-layer.js'
import { widthBytes } from '../../packing/trellis-keys.js'
import {
  blocksPerRow,
  centroidsOf,
  columnGroupsOf,
  isTrellis,
  rowGroupsOf,
  type VqLayout,
  vectorsPerRow,
} from '../../packing/vq-layer.js'
import type { Dtype } from '../dtype.js'
import { findTensor, type TensorSource } from '../tensor-source.js'
import type { ModuleRecord, ScalarRecord, VqRecord } from './quantized-config.js'

/** One tensor as it goes into a safetensors file. */
export interface StoredTensor {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
  readonly bytes: Uint8Array
}

/** Endings of the tensors that a quantized layer consists of; each replaces `.weight`. */
const SUFFIXES = {
  indices: '.vq_indices',
  codebooks: '.vq_codebooks',
  codebookScales: '.vq_codebook_scales',
  blockScales: '.vq_scales',
  scaleRatio: '.vq_scale_ratio',
  permutation: '.vq_permutation',
  widths: '.vq_widths',
  codes: '.sq_codes',
  scales: '.sq_scales',
  zeros: '.sq_zeros',
} as const

/** The tensors that store a quantized layer. @param module the weight's name less `.weight` */
export function storedTensors(module: string, packed: PackedQuantizedLayer): StoredTensor[] {
  return 'layout' in packed ? vqTensors(module, packed) : scalarTensors(module, packed)
}

function vqTensors(module: string, packed: PackedLayer): StoredTensor[] {
  const { layout, indices, codebooks, codebookScales, blockScales, permutation, widths } = packed
  const groups = [rowGroupsOf(layout), columnGroupsOf(layout)]
  const codebookShape = [...groups, centroidsOf(layout), layout.vectorDim]
  const codebookDtype = codebooks instanceof Int8Array ? 'I8' : 'F16'
  const tensors = [
    tensor(module + SUFFIXES.indices, 'U8', [layout.rows, indices.length / layout.rows], indices),
    widths
      ? tensor(module + SUFFIXES.widths, 'U8', [widths.length], widths)
      : tensor(module + SUFFIXES.codebooks, codebookDtype, codebookShape, codebooks),
    tensor(module + SUFFIXES.codebookScales, 'BF16', groups, codebookScales),
  ]
  if (blockScales) {
    const { codes, ratio } = blockScales
    tensors.push(
      tensor(module + SUFFIXES.blockScales, 'U8', [layout.rows, codes.length / layout.rows], codes),
      tensor(module + SUFFIXES.scaleRatio, 'F32', [1], ratio),
    )
  }
  if (permutation) {
    tensors.push(tensor(module + SUFFIXES.permutation, 'U8', [permutation.length], permutation))
  }
  return tensors
}

function scalarTensors(module: string, packed: PackedScalarLayer): StoredTensor[] {
  const { rows, cols, groupSize, codes, scales, zeros } = packed
  return [
    tensor(module + SUFFIXES.codes, 'U8', [rows, codes.length / rows], codes),
    tensor(module + SUFFIXES.scales, 'F16', [rows, groupsPerRow(cols, groupSize)], scales),
    tensor(module + SUFFIXES.zeros, 'U8', [zeros.length], zeros),
  ]
}

function tensor(name: string, dtype: Dtype, shape: number[], data: ArrayBufferView): StoredTensor {
  return { name, dtype, shape, bytes: bytesOf(data) }
}

/** What `config.json` has to say of a layer, so that its tensors can be read. */
export function recordOf(
  packed: PackedQuantizedLayer,
  dtype: ModuleRecord['dtype'],
  relativeError: number | null,
  driftMove?: number,
): ModuleRecord {
  const measured = {
    relative_error: relativeError,
    ...(driftMove !== undefined && { drift_move: driftMove }),
  }
  if ('layout' in packed) {
    const { rows, cols, bits, vectorDim, columnsPerGroup, rowsPerGroup } = packed.layout
    const { scaleBlockSize, trellis } = packed.layout
    return {
      format: 'vq',
      shape: [rows, cols],
      dtype,
      bits,
      ...measured,
      vector_dim: vectorDim,
      columns_per_group: columnsPerGroup,
      rows_per_group: rowsPerGroup,
      codebook_bits: packed.codebooks instanceof Int8Array ? 8 : 16,
      ...(scaleBlockSize !== undefined && { scale_block_size: scaleBlockSize }),
      ...(trellis && { key_bits: trellis.keyBits, codebook: CONSTANT_CODEBOOK }),
      ...(packed.permutation && { permuted: true }),
    }
  }
  const { rows, cols, bits, groupSize } = packed
  return {
    format: 'scalar',
    shape: [rows, cols],
    dtype,
    bits,
    ...measured,
    group_size: groupSize,
  }
}

/** Whether a tensor of this name is part of a quantized layer. */
export function isStoredName(name: string): boolean {
  return Object.values(SUFFIXES).some((suffix) => name.endsWith(suffix))
}

/** The tensors that store a layer of this record, as their headers must state them. */
export function expectedTensors(module: string, record: ModuleRecord): Omit<StoredTensor, 'bytes'>[] {
  const [rows, cols] = record.shape
  if (record.format === 'scalar') {
    const { bits, group_size: groupSize } = record
    const groups = groupsPerRow(cols, groupSize)
    return [
      { name: module + SUFFIXES.codes, dtype: 'U8', shape: [rows, packedRowBytes(cols, bits)] },
      { name: module + SUFFIXES.scales, dtype: 'F16', shape: [rows, groups] },
      { name: module + SUFFIXES.zeros, dtype: 'U8', shape: [packedRowBytes(rows * groups, bits)] },
    ]
  }
  const layout = plainLayout(record)
  const vectors = vectorsPerRow(layout)
  // the widths of a trellis add up to the bits of a row
  const rowBytes = Math.ceil(Math.round(record.bits * layout.vectorDim * vectors) / 8)
  const groups = [rowGroupsOf(layout), columnGroupsOf(layout)]
  const shapes: Record<string, [Dtype, number[]]> = {
    [SUFFIXES.indices]: ['U8', [rows, rowBytes]],
    [SUFFIXES.codebooks]: [
      record.codebook_bits === 8 ? 'I8' : 'F16',
      [...groups, centroidsOf(layout), layout.vectorDim],
    ],
    [SUFFIXES.codebookScales]: ['BF16', groups],
    [SUFFIXES.blockScales]: ['U8', [rows, packedRowBytes(blocksPerRow(layout), SCALE_BITS)]],
    [SUFFIXES.scaleRatio]: ['F32', [1]],
    [SUFFIXES.permutation]: ['U8', [permutationBytes(cols)]],
    [SUFFIXES.widths]: ['U8', [widthBytes(vectors)]],
  }
  return storedNames(module, record).map((name) => {
    const [dtype, shape] = shapes[name.slice(module.length)]
    return { name, dtype, shape }
  })
}

/** Names of the tensors that store a layer of this record. */
export function storedNames(module: string, record: ModuleRecord): string[] {
  const { indices, codebooks, codebookScales, blockScales, scaleRatio, permutation, widths } = SUFFIXES
  const { codes, scales, zeros } = SUFFIXES
  const named = (...suffixes: string[]) => suffixes.map((suffix) => module + suffix)
  if (record.format === 'scalar') return named(codes, scales, zeros)
  return [
    ...(record.key_bits === undefined ? named(indices, codebooks) : named(indices, widths)),
    ...named(codebookScales),
    ...(record.scale_block_size === undefined ? [] : named(blockScales, scaleRatio)),
    ...(record.permuted ? named(permutation) : []),
  ]
}

/**
 * Reads a quantized layer back.
 *
 * @throws CheckpointError naming the tensor when it is missing, of another dtype or shape than the record gives, or
 *   holds scales that are not finite
 */
export async function readQuantizedLayer(
  source: TensorSource,
  module: string,
  record: ModuleRecord,
): Promise<QuantizedLayer> {
  const packed = await readPackedLayer(source, module, record)
  return fitting(module, () => unpack(packed))
}

/**
 * Reads the arrays of a quantized layer as they are stored. That their lengths fit together is found out when they are
 * used: see {@link fitting}.
 *
 * @throws CheckpointError as {@link readQuantizedLayer}
 */
export function readPackedLayer(
  source: TensorSource,
  module: string,
  record: ModuleRecord,
): Promise<PackedQuantizedLayer> {
  return record.format === 'vq' ? readVq(source, module, record) : readScalar(source, module, record)
}

/** Uses the arrays of a layer. @throws CheckpointError naming the layer when they do not fit together */
export function fitting<T>(module: string, use: () => T): T {
  try {
    return use()
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error
    throw new CheckpointError(
      `${module}: ${error.message}. config.json and the weights do not belong together; quantize the model again`,
      { cause: error },
    )
  }
}

async function readVq(source: TensorSource, module: string, record: VqRecord): Promise<PackedLayer> {
  const widths = record.key_bits === undefined ? undefined : await readWidths(source, module, record)
  const layout: VqLayout = {
    ...plainLayout(record),
    ...(record.key_bits !== undefined &&
      widths && { trellis: { keyBits: record.key_bits, widths: widths.widths } }),
  }
  const codebookScales = new Uint16Array(await read(source, module + SUFFIXES.codebookScales, 'BF16'))
  if (!codebookScales.every((scale) => Number.isFinite(bfloatToFloat(scale))))
    throw notFinite(module + SUFFIXES.codebookScales)
  const codebooks = isTrellis(layout) ? new Int8Array(0) : await readCodebooks(source, module, record)
  requireFiniteCentroids(module, codebooks, codebookScales)
  return {
    layout,
    indices: new Uint8Array(await read(source, module + SUFFIXES.indices, 'U8')),
    codebooks,
    codebookScales,
    ...(layout.scaleBlockSize !== undefined && { blockScales: await readScales(source, module, layout) }),
    ...(record.permuted && { permutation: await readPermutation(source, module, layout.cols) }),
    ...(widths && { widths: widths.packed }),
  }
}

/** What the record alone tells of a layout: all but the widths of a trellis. */
function plainLayout(record: VqRecord): VqLayout {
  return {
    rows: record.shape[0],
    cols: record.shape[1],
    vectorDim: record.vector_dim,
    bits: record.bits,
    columnsPerGroup: record.columns_per_group,
    rowsPerGroup: record.rows_per_group,
    ...(record.scale_block_size !== undefined && { scaleBlockSize: record.scale_block_size }),
  }
}

async function readWidths(
  source: TensorSource,
  module: string,
  { shape: [, cols], vector_dim, key_bits = 0, bits }: VqRecord,
): Promise<{ packed: Uint8Array; widths: Uint8Array }> {
  const name = module + SUFFIXES.widths
  const vectors = Math.ceil(cols / vector_dim)
  const packed = new Uint8Array(await read(source, name, 'U8', [widthBytes(vectors)]))
  const widths = unpackWidths(packed, vectors)
  const widest = widths.reduce((most, width) => Math.max(most, width), 0)
  const mean = widths.reduce((sum, width) => sum + width, 0) / (vectors * vector_dim)
  if (widest > key_bits || mean !== bits) {
    throw new CheckpointError(
      `${name}: indices of up to ${widest} bits, ${mean} a weight on average; config.json says ${key_bits} and ${bits}. ` +
        'config.json and the weights do not belong together; quantize the model again',
    )
  }
  return { packed, widths }
}

async function readCodebooks(
  source: TensorSource,
  module: string,
  record: VqRecord,
): Promise<CodebookElements> {
  const name = module + SUFFIXES.codebooks
  if (record.codebook_bits === 8) return new Int8Array(await read(source, name, 'I8'))
  const halves = new Uint16Array(await read(source, name, 'F16'))
  if (!halves.every(isFiniteHalf)) throw notFinite(name)
  return halves
}

async function readPermutation(source: TensorSource, module: string, cols: number): Promise<Uint8Array> {
  const name = module + SUFFIXES.permutation
  const packed = new Uint8Array(await read(source, name, 'U8', [permutationBytes(cols)]))
  try {
    unpackPermutation(packed, cols)
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error
    throw new CheckpointError(`${name}: ${error.message}. The file is damaged; quantize the model again`, {
      cause: error,
    })
  }
  return packed
}

async function readScales(source: TensorSource, module: string, layout: VqLayout): Promise<PackedScales> {
  const [codesName, ratioName] = [module + SUFFIXES.blockScales, module + SUFFIXES.scaleRatio]
  const shape = [layout.rows, packedRowBytes(blocksPerRow(layout), SCALE_BITS)]
  const codes = new Uint8Array(await read(source, codesName, 'U8', shape))
  const ratio = new Float32Array(await read(source, ratioName, 'F32', [1]))
  if (!(ratio[0] > 0 && ratio[0] < 1)) {
    throw new CheckpointError(
      `${ratioName}: holds ${ratio[0]}, expected a number between 0 and 1; the file is damaged. Quantize the model again`,
    )
  }
  return { codes, ratio }
}

async function readScalar(
  source: TensorSource,
  module: string,
  record: ScalarRecord,
): Promise<PackedScalarLayer> {
  const scales = new Uint16Array(await read(source, module + SUFFIXES.scales, 'F16'))
  if (!scales.every(isFiniteHalf)) throw notFinite(module + SUFFIXES.scales)
  return {
    rows: record.shape[0],
    cols: record.shape[1],
    bits: record.bits,
    groupSize: record.group_size,
    codes: new Uint8Array(await read(source, module + SUFFIXES.codes, 'U8')),
    scales,
    zeros: new Uint8Array(await read(source, module + SUFFIXES.zeros, 'U8')),
  }
}

/** A tensor's bytes in a buffer of their own, aligned for any element. */
async function read(
  source: TensorSource,
  name: string,
  dtype: Dtype,
  shape?: readonly number[],
): Promise<ArrayBuffer> {
  const info = findTensor(source.tensors, name, 'the quantized checkpoint')
  const [found, expected] = shape
    ? [`${info.dtype} ${info.shape.join(' x ')}`, `${dtype} ${shape.join(' x ')}`]
    : [info.dtype, dtype]
  if (found !== expected) {
    throw new CheckpointError(
      `${info.file}: ${name} is ${found}, expected ${expected}. config.json and the weights do not belong together; ` +
        'quantize the model again',
    )
  }
  return Uint8Array.from(await source.readBytes(name)).buffer
}

/** Elements and scales are finite, their products need not be; the scales of blocks are 1 at most. */
function requireFiniteCentroids(module: string, elements: CodebookElements, scales: Uint16Array): void {
  const size = elements.length / scales.length
  for (const [group, scale] of scales.entries()) {
    // of a constant codebook the largest element is known
    let largest = size === 0 ? 127 : 0
    for (let i = group * size; i < (group + 1) * size; i++) {
      const value = elements instanceof Int8Array ? elements[i] : halfToFloat(elements[i])
      if (value > largest || -value > largest) largest = Math.abs(value)
    }
    if (Number.isFinite(Math.fround(largest * bfloatToFloat(scale)))) continue
    throw new CheckpointError(
      `${module}${SUFFIXES.codebookScales}: a scale makes infinite weights of the codebook's elements; the file is damaged. ` +
        'Quantize the model again',
    )
  }
}

function isFiniteHalf(half: number): boolean {
  return (half & 0x7c00) !== 0x7c00
}

function notFinite(name: string): CheckpointError {
  return new CheckpointError(`${name}: holds NaN or infinity; the file is damaged. Quantize the model again`)
}
