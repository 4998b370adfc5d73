import type { TaskScales } from '../../kernels/contract.js'
import { blocksPerRow, type VqLayout } from '../../packing/vq-layer.js'

/** The scales of a column task that starts at (row, column) of the layer; nothing for a layer without scales. */
export function taskScales(
  layout: VqLayout,
  scales: Float32Array | undefined,
  row: number,
  column: number,
): { readonly scales?: TaskScales } {
  const { scaleBlockSize: blockSize } = layout
  if (scales === undefined || blockSize === undefined) return {}
  const stride = blocksPerRow(layout)
  return {
    scales: { values: { data: scales, offset: row * stride + column / blockSize, stride }, blockSize },
  }
}
