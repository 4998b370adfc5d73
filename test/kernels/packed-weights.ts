import fc from 'fast-check'
import { widthFactor } from '../../src/codebook/constant-codebook.js'
import { matrix } from '../../src/common/matrix.js'
import type { PackedSource } from '../../src/kernels/packed-contract.js'
import { packedSourceOf } from '../../src/packing/packed-source.js'
import { permuteColumns } from '../../src/packing/permutation.js'
import { dequantize, pack, type QuantizedLayer } from '../../src/packing/quantized-layer.js'
import type { VqLayer, VqLayout } from '../../src/packing/vq-layer.js'
import { layers, randomLayer, randomPermutation, trellisOf } from '../packing/layers.js'
import { scalarLayers } from '../packing/scalar-layers.js'

/** A layer of any method, some of them with their columns in another order. */
export const anyLayers: fc.Arbitrary<QuantizedLayer> = fc.oneof(
  scalarLayers,
  layers,
  fc.tuple(layers, fc.nat(1e6)).map(([layer, seed]) => ({
    ...layer,
    permutation: randomPermutation(layer.layout.cols, seed),
  })),
)

/** Dimensions and bits. */
const shapes = [
  ...([
    [1, 1],
    [1, 2],
    [1, 3],
    [1, 4],
    [1, 8],
    [2, 1],
    [2, 2],
    [2, 3],
    [2, 4],
    [2, 5],
    [4, 1],
    [4, 2],
  ] as const),
] as const

/** Layouts whose vectors, groups and blocks fill whole registers, as those of models do, with ends that do not. */
const evenLayouts: fc.Arbitrary<VqLayout> = fc
  .record({
    rows: fc.integer({ min: 1, max: 40 }),
    cols: fc.integer({ min: 60, max: 600 }),
    shape: fc.constantFrom(...shapes),
    widths: fc.option(fc.record({ keyBits: fc.integer({ min: 6, max: 12 }), seed: fc.nat(1e6) }), {
      nil: undefined,
    }),
    mostBits: fc.constantFrom(4, 7, 12),
    columnsPerGroup: fc.constantFrom(64, 128, 256, 768),
    rowsPerGroup: fc.integer({ min: 1, max: 40 }),
    scaleBlockSize: fc.constantFrom(undefined, 16, 32, 64),
  })
  .map(({ shape, scaleBlockSize, widths, mostBits, ...sizes }) => ({
    ...sizes,
    vectorDim: shape[0],
    bits: shape[1],
    ...(scaleBlockSize && { scaleBlockSize }),
    ...(widths && trellisUpTo(mostBits, Math.ceil(sizes.cols / shape[0]), shape[0], widths)),
  }))

/** A trellis whose codes have `mostBits` at most: short ones are taken apart in another way. */
function trellisUpTo(mostBits: number, ...given: Parameters<typeof trellisOf>) {
  const { trellis } = trellisOf(...given)
  const widths = trellis.widths.map((width) => Math.min(width, mostBits))
  const bits = widths.reduce((sum, width) => sum + width, 0) / (widths.length * given[1])
  return { bits, trellis: { ...trellis, widths } }
}

/** Layers as models have them. */
export const evenLayers: fc.Arbitrary<QuantizedLayer> = fc
  .tuple(evenLayouts, fc.nat(1e6))
  .map(([layout, seed]) => randomLayer(layout, 8, seed))

/** Layers with a trellis whose row groups have many tiles of 16 rows, the last of which are not full. */
export const tallLayers: fc.Arbitrary<QuantizedLayer> = fc
  .record({
    rows: fc.integer({ min: 250, max: 600 }),
    cols: fc.integer({ min: 40, max: 150 }),
    vectorDim: fc.constantFrom(1, 2, 4),
    mostBits: fc.constantFrom(5, 12),
    rowsPerGroup: fc.constantFrom(100, 256, 600),
    scaleBlockSize: fc.constantFrom(undefined, 64),
    seed: fc.nat(1e6),
  })
  .map(({ mostBits, scaleBlockSize, seed, ...sizes }) => {
    const given = { keyBits: 12, seed }
    const layout = {
      ...{ ...sizes, columnsPerGroup: 64, ...(scaleBlockSize && { scaleBlockSize }) },
      ...trellisUpTo(mostBits, Math.ceil(sizes.cols / sizes.vectorDim), sizes.vectorDim, given),
    }
    return randomLayer(layout, 8, seed)
  })

/** Plain pairs with codes of 4 bits whose codebooks serve many rows, some with their columns in another order. */
export const tallPairs: fc.Arbitrary<VqLayer> = fc
  .record({
    rows: fc.integer({ min: 40, max: 500 }),
    cols: fc.integer({ min: 2, max: 600 }),
    columnsPerGroup: fc.constantFrom(64, 128, 256, 768),
    rowsPerGroup: fc.constantFrom(47, 64, 80, 110, 250, 600),
    scaleBlockSize: fc.constantFrom(undefined, 64),
    isPermuted: fc.boolean(),
    seed: fc.nat(1e6),
  })
  .map(({ scaleBlockSize, isPermuted, seed, ...sizes }) => {
    const layout = { ...sizes, ...(scaleBlockSize && { scaleBlockSize }), vectorDim: 2, bits: 2 }
    const layer = randomLayer(layout, 8, seed)
    return isPermuted ? { ...layer, permutation: randomPermutation(sizes.cols, seed) } : layer
  })

/** Plain pairs with codes of 4 bits whose weights are whole numbers, all of them 127 or -127 in some. */
export const wholePairs: fc.Arbitrary<VqLayer> = fc
  .record({
    rows: fc.integer({ min: 1, max: 90 }),
    cols: fc.integer({ min: 60, max: 600 }),
    columnsPerGroup: fc.constantFrom(64, 128, 256),
    rowsPerGroup: fc.integer({ min: 1, max: 90 }),
    isLarge: fc.boolean(),
    seed: fc.nat(1e6),
  })
  .map(({ isLarge, seed, ...sizes }) => {
    const layer = randomLayer({ ...sizes, vectorDim: 2, bits: 2 }, 8, seed)
    layer.codebookScales.fill(1)
    if (isLarge) layer.codebooks.set(layer.codebooks.map((element) => (element < 0 ? -127 : 127)))
    return layer
  })

export function sourceOf(layer: QuantizedLayer): PackedSource {
  return packedSourceOf(pack(layer))
}

/** What a layer stands for, and its columns in stored order. */
export function weightsOf(layer: QuantizedLayer): { natural: Float32Array; stored: Float32Array } {
  const natural = dequantize(layer).data
  const permutation = 'layout' in layer ? layer.permutation : undefined
  return { natural, stored: permutation ? permuteColumns(natural, permutation) : natural }
}

export const shapeOf = (layer: QuantizedLayer) => {
  const { rows, cols } = 'layout' in layer ? layer.layout : layer
  return matrix(rows, cols)
}

/** What the trellis of a layer multiplies a column by. */
export function factorOf(layer: QuantizedLayer, column: number): number {
  if (!('layout' in layer) || !layer.layout.trellis) return 1
  const { vectorDim, trellis } = layer.layout
  return widthFactor(vectorDim, trellis.widths[Math.floor(column / vectorDim)])
}
