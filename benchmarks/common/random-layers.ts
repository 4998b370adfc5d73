import { randomGenerator, randomNormal } from '../../src/common/random.js'
import { floatToHalf } from '../../src/kernels/half.js'
import { layoutOf } from '../../src/packing/layout.js'
import { type LayoutOptions, resolveLayoutOptions } from '../../src/packing/layout-options.js'
import { type PackedQuantizedLayer, pack } from '../../src/packing/quantized-layer.js'
import { groupsPerRow } from '../../src/packing/scalar-layer.js'
import { keysOfIndices } from '../../src/packing/trellis-keys.js'
import {
  emptyLayer,
  indexBitsOf,
  isTrellis,
  type VqLayout,
  vectorsPerRow,
} from '../../src/packing/vq-layer.js'

/** Of plain pairs of 2 bits: codebooks of 160 rows, at no more bits than those of 17 rows by default. */
export const tallGroups: LayoutOptions = { columnsPerGroup: 64, groupSize: 160 * 64 }

/** A vector-quantized layer of random indices, whose weights are below 1. */
export function vectorLayer(rows: number, cols: number, options: LayoutOptions): PackedQuantizedLayer {
  const layout = withMixedWidths(layoutOf(rows, cols, resolveLayoutOptions(options)))
  const layer = emptyLayer(layout, 8, 0.75)
  const random = randomGenerator(3)
  const below = (count: number) => Math.floor(random() * count)
  const perRow = vectorsPerRow(layout)
  const bitsOf = (i: number) => layout.trellis?.widths[i % perRow] ?? indexBitsOf(layout)
  for (let i = 0; i < layer.indices.length; i++) layer.indices[i] = below(2 ** bitsOf(i))
  if (isTrellis(layout)) keysOfIndices(layout, layer.indices)
  else for (let i = 0; i < layer.codebooks.length; i++) layer.codebooks[i] = below(255) - 127
  layer.codebookScales.fill(2 ** -8)
  const codes = layer.blockScales?.codes
  for (let i = 0; codes && i < codes.length; i++) codes[i] = below(16)
  return pack(layer)
}

/** A trellis as quantization makes it: indices of some columns have more bits, of others fewer. */
function withMixedWidths(layout: VqLayout): VqLayout {
  if (!layout.trellis) return layout
  const widths = layout.trellis.widths.map((width, i) => width + ((i * 7) % 3) - 1)
  const bits = widths.reduce((sum, width) => sum + width, 0) / (widths.length * layout.vectorDim)
  return { ...layout, bits, trellis: { ...layout.trellis, widths } }
}

/** A layer of random scalar codes. */
export function scalarLayer(
  rows: number,
  cols: number,
  bits: number,
  groupSize: number,
): PackedQuantizedLayer {
  const groups = rows * groupsPerRow(cols, groupSize)
  const random = randomGenerator(4)
  const code = () => Math.floor(random() * 2 ** bits)
  return pack({
    ...{ rows, cols, bits, groupSize },
    codes: Uint8Array.from({ length: rows * cols }, code),
    scales: new Uint16Array(groups).fill(floatToHalf(2 ** -6)),
    zeros: Uint8Array.from({ length: groups }, code),
  })
}

/** Standard normal numbers. */
export function normals(length: number, seed: number): Float32Array {
  const random = randomGenerator(seed)
  return Float32Array.from({ length }, () => randomNormal(random))
}
