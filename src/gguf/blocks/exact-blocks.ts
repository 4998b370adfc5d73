import type { ModuleRecord } from '../../checkpoint/quantized/quantized-config.js'
import { halfToFloat } from '../../kernels/half.js'
import type { QuantizedLayer } from '../../packing/quantized-layer.js'
import { groupsPerRow, type ScalarLayer } from '../../packing/scalar-layer.js'
import { blocksPerRow, columnGroupsOf, decodeBlockScales, type VqLayer } from '../../packing/vq-layer.js'
import { type EncodeBlock, encodeQ4x1By, encodeQ5x1By, encodeQ8x0, encodeQ8x0By } from './encode-blocks.js'

/** How the blocks of 32 of a quantized layer become blocks of a GGUF type with the same codes. */
export interface ExactBlocks {
  /** The type: `'Q8_0'`, `'Q4_1'` or `'Q5_1'`. */
  readonly type: 'Q8_0' | 'Q4_1' | 'Q5_1'
  /** The encoder of the block at column `32 * block` of a row. */
  encoder(row: number, block: number): EncodeBlock
}

const BLOCK = 32

/** What of a layer's record decides whether its blocks have scales of their own. */
export function exactTypeOf(record: ModuleRecord): ExactBlocks['type'] | undefined {
  const [, cols] = record.shape
  if (cols % BLOCK !== 0) return undefined
  if (record.format === 'scalar') {
    if (record.group_size % BLOCK !== 0) return undefined
    return record.bits <= 4 ? 'Q4_1' : record.bits === 5 ? 'Q5_1' : 'Q8_0'
  }
  // the columns of a trellis have factors of their own
  if (record.key_bits !== undefined) return undefined
  const { columns_per_group: group, scale_block_size: scales = BLOCK, permuted, codebook_bits: bits } = record
  const apart = (group % BLOCK === 0 || group >= cols) && scales % BLOCK === 0
  return apart && !permuted && bits === 8 ? 'Q8_0' : undefined
}

/**
 * How a layer is written with no more loss than the rounding of its scales to halves; undefined where its blocks of 32
 * weights have no scale of their own: trellis codes, reordered columns, 16-bit codebooks, groups or scales that are no
 * multiple of 32 weights wide.
 */
export function exactBlocks(layer: QuantizedLayer, record: ModuleRecord): ExactBlocks | undefined {
  const type = exactTypeOf(record)
  if (type === undefined) return undefined
  return { type, encoder: 'layout' in layer ? vqEncoder(layer) : scalarEncoder(layer, type) }
}

type Encoder = ExactBlocks['encoder']

function vqEncoder(layer: VqLayer): Encoder {
  const { layout, codebookScales } = layer
  const { columnsPerGroup, rowsPerGroup, scaleBlockSize } = layout
  const scales = decodeBlockScales(layer)
  const groups = columnGroupsOf(layout)
  const blocks = blocksPerRow(layout)
  return (row, block) => {
    const column = block * BLOCK
    const group = Math.floor(row / rowsPerGroup) * groups + Math.floor(column / columnsPerGroup)
    const own = scales && scaleBlockSize ? scales[row * blocks + Math.floor(column / scaleBlockSize)] : 1
    const scale = codebookScales[group] * own
    return (values, from, bytes, at) => encodeQ8x0By(scale, values, from, bytes, at)
  }
}

function scalarEncoder(layer: ScalarLayer, type: ExactBlocks['type']): Encoder {
  const { cols, groupSize, scales, zeros } = layer
  const groups = groupsPerRow(cols, groupSize)
  return (row, block) => {
    const group = row * groups + Math.floor((block * BLOCK) / groupSize)
    const scale = halfToFloat(scales[group])
    if (type === 'Q4_1') return encodeQ4x1By(scale, -scale * zeros[group])
    if (type === 'Q5_1') return encodeQ5x1By(scale, -scale * zeros[group])
    return (values, from, bytes, at) => {
      let largest = 0
      for (let i = from; i < from + BLOCK; i++) largest = Math.max(largest, Math.abs(values[i]))
      // of 8 bits and a zero point at one end, codes go beyond an int8
      if (largest > 127.5 * scale) encodeQ8x0(values, from, bytes, at)
      else encodeQ8x0By(scale, values, from, bytes, at)
    }
  }
}
