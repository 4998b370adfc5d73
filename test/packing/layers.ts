import fc from 'fast-check'
import type { CodebookBits } from '../../src/codebook/store-codebook.js'
import { randomGenerator } from '../../src/common/random.js'
import { bfloatToFloat, floatToBfloat } from '../../src/kernels/half.js'
import { keysOfIndices } from '../../src/packing/trellis-keys.js'
import {
  emptyLayer,
  indexBitsOf,
  isTrellis,
  type VqLayer,
  type VqLayout,
  vectorsPerRow,
} from '../../src/packing/vq-layer.js'

/** Layouts of any raggedness: rows and columns that no group and no vector divides. Indices of up to 8 bits. */
export const layouts: fc.Arbitrary<VqLayout> = fc
  .record({
    rows: fc.integer({ min: 1, max: 11 }),
    cols: fc.integer({ min: 1, max: 45 }),
    vectorDim: fc.constantFrom(1, 2, 4),
    bits: fc.integer({ min: 1, max: 4 }),
    vectorsPerGroup: fc.integer({ min: 1, max: 12 }),
    rowsPerGroup: fc.integer({ min: 1, max: 12 }),
    scaleBlockSize: fc.option(fc.integer({ min: 1, max: 50 }), { nil: undefined }),
    trellis: fc.option(fc.record({ keyBits: fc.integer({ min: 1, max: 9 }), seed: fc.nat(1e6) }), {
      nil: undefined,
    }),
  })
  .map(({ rows, cols, vectorDim, bits, vectorsPerGroup, rowsPerGroup, scaleBlockSize, trellis }) => ({
    rows,
    cols,
    vectorDim,
    bits: Math.min(bits, 8 / vectorDim),
    ...(trellis && trellisOf(Math.ceil(cols / vectorDim), vectorDim, trellis)),
    columnsPerGroup: vectorsPerGroup * vectorDim,
    rowsPerGroup,
    ...(scaleBlockSize && { scaleBlockSize }),
  }))

/** A trellis of random widths, and what it makes of the bits of a layout. */
export function trellisOf(
  vectors: number,
  vectorDim: number,
  { keyBits, seed }: { keyBits: number; seed: number },
) {
  const random = randomGenerator(seed)
  const widths = Uint8Array.from({ length: vectors }, () => 1 + Math.floor(random() * keyBits))
  const bits = widths.reduce((sum, width) => sum + width, 0) / (vectors * vectorDim)
  return { bits, trellis: { keyBits, widths } }
}

/** A layer of random indices, codebooks, their scales and, where the layout has them, block scales. */
export function randomLayer(layout: VqLayout, codebookBits: CodebookBits, seed: number): VqLayer {
  const random = randomGenerator(seed)
  const layer = emptyLayer(layout, codebookBits, Math.fround(0.5 + random() / 2))
  const { indices, codebooks, codebookScales, blockScales } = layer
  const bitsOf = (i: number) => layout.trellis?.widths[i % vectorsPerRow(layout)] ?? indexBitsOf(layout)
  for (let i = 0; i < indices.length; i++) indices[i] = Math.floor(random() * 2 ** bitsOf(i))
  if (isTrellis(layout)) keysOfIndices(layout, indices)
  for (let i = 0; !isTrellis(layout) && i < codebooks.length; i++) {
    // int8, or halves from -1 to 1
    codebooks[i] = codebookBits === 8 ? Math.floor(random() * 255) - 127 : randomHalf(random())
  }
  for (let i = 0; i < codebookScales.length; i++) codebookScales[i] = bfloatToFloat(floatToBfloat(random()))
  blockScales?.codes.set(blockScales.codes.map(() => Math.floor(random() * 16)))
  return layer
}

/** Columns 0 to `cols - 1` in a random order. */
export function randomPermutation(cols: number, seed: number): Uint32Array {
  const random = randomGenerator(seed)
  const keys = Array.from({ length: cols }, () => random())
  return Uint32Array.from({ length: cols }, (_, i) => i).sort((i, j) => keys[i] - keys[j])
}

function randomHalf(share: number): number {
  const magnitude = Math.floor(share * 2 * 0x3c01)
  return magnitude > 0x3c00 ? 0x8000 | (magnitude - 0x3c01) : magnitude
}

export const layers: fc.Arbitrary<VqLayer> = fc
  .tuple(layouts, fc.constantFrom<CodebookBits>(8, 16), fc.nat(1e6))
  .map(([layout, codebookBits, seed]) => randomLayer(layout, isTrellis(layout) ? 8 : codebookBits, seed))

/** Layouts with codebooks of their own, which can be tuned: without a trellis. */
export const plainLayouts: fc.Arbitrary<VqLayout> = layouts.map(({ trellis, ...layout }) =>
  trellis ? { ...layout, bits: 2 } : layout,
)

/** Layers without a trellis. */
export const plainLayers: fc.Arbitrary<VqLayer> = layers.filter(({ layout }) => !layout.trellis)
