import { describe, expect, it } from 'vitest'
import { scalarLayer, tallGroups, vectorLayer } from '../../benchmarks/common/random-layers.js'
import { forwardKernels } from '../../src/kernels/forward-kernels.js'
import { packedBytes } from '../../src/packing/bits-per-value.js'
import { preparePackedWeight } from '../../src/packing/packed-weight.js'

/** As the layers of a model of a billion weights, but for fewer rows. */
const [rows, cols] = [1024, 2048]

const forms = {
  'pairs of 2 bits': () => vectorLayer(rows, cols, {}),
  'pairs of 2 bits, 160 rows a codebook': () => vectorLayer(rows, cols, tallGroups),
  'pairs of 2 bits, 68 rows a codebook': () =>
    vectorLayer(rows, cols, { columnsPerGroup: 64, groupSize: 68 * 64 }),
  'a trellis of 2 bits': () => vectorLayer(rows, cols, { trellisBits: 8 }),
  'a trellis of 3 bits': () => vectorLayer(rows, cols, { bits: 3, trellisBits: 6 }),
  'scalars of 4 bits': () => scalarLayer(rows, cols, 4, 128),
  'scalars of 8 bits': () => scalarLayer(rows, cols, 8, 128),
}

describe('the memory that kernels take for a layer', () => {
  it.each(Object.entries(forms))('is at most 1.25 times what is stored: %s', (_, make) => {
    const layer = make()
    const held = preparePackedWeight(layer)
    expect(held.bytes).toBeGreaterThan(0)
    expect(held.bytes).toBeLessThanOrEqual(1.25 * packedBytes(layer))
    forwardKernels().releasePacked(held)
  })
})
