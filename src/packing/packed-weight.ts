import { forwardKernels } from '../kernels/forward-kernels.js'
import type { PackedWeight } from '../kernels/packed-contract.js'
import { packedSourceOf } from './packed-source.js'
import type { PackedQuantizedLayer } from './quantized-layer.js'

/**
 * Copies a packed layer into the memory of the kernels, which then multiply by it as it is; to be freed by
 * `forwardKernels().releasePacked`.
 *
 * @throws ShapeError when an array's length does not follow from shape and settings
 * @throws UnsupportedError when the kernels' memory, 2 GiB at most, has no room for it
 */
export function preparePackedWeight(packed: PackedQuantizedLayer): PackedWeight {
  return forwardKernels().preparePacked(packedSourceOf(packed))
}
