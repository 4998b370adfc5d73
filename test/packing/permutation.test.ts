import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ShapeError } from '../../src/common/errors.js'
import { bitsPerValue, packedBytes } from '../../src/packing/bits-per-value.js'
import { layoutOf } from '../../src/packing/layout.js'
import { resolveLayoutOptions } from '../../src/packing/layout-options.js'
import { packLayer, unpackLayer } from '../../src/packing/pack-layer.js'
import {
  packPermutation,
  permutationBytes,
  permuteColumns,
  restoreColumns,
  unpackPermutation,
} from '../../src/packing/permutation.js'
import { dequantizeLayer, emptyLayer } from '../../src/packing/vq-layer.js'
import { thrownBy } from '../support/tolerance.js'
import { layers, randomLayer, randomPermutation } from './layers.js'

const permutations = fc
  .tuple(fc.oneof(fc.integer({ min: 1, max: 70 }), fc.constantFrom(255, 256, 257, 4096)), fc.nat(1e6))
  .map(([cols, seed]) => randomPermutation(cols, seed))

describe('packPermutation and unpackPermutation', () => {
  it('give back the same order of any number of columns', () => {
    fc.assert(
      fc.property(permutations, (permutation) => {
        expect(unpackPermutation(packPermutation(permutation), permutation.length)).toEqual(permutation)
      }),
    )
  })

  it('take ceil(log2(columns)) bits a column', () => {
    for (const [cols, bits] of [
      [1, 1],
      [2, 1],
      [3, 2],
      [256, 8],
      [257, 9],
      [4096, 12],
      [11008, 14],
      [70000, 17],
    ]) {
      expect(permutationBytes(cols)).toBe(Math.ceil((cols * bits) / 8))
    }
    expect(packPermutation(Uint32Array.of(2, 0, 1))).toEqual(Uint8Array.of(0b01_00_10))
  })

  it('keep columns beyond 65536 apart', () => {
    const permutation = Uint32Array.from({ length: 70000 }, (_, i) => 69999 - i)
    const unpacked = unpackPermutation(packPermutation(permutation), 70000)
    expect(Buffer.compare(Buffer.from(unpacked.buffer), Buffer.from(permutation.buffer))).toBe(0)
  })

  it('refuse a column that stands there twice or does not exist, saying where', () => {
    const pack = (...columns: number[]) => packPermutation(Uint32Array.from(columns))
    for (const [packed, message] of [
      [pack(0, 1, 1, 2, 3), /permutation: position 2 holds column 1, which stands there already/],
      [pack(0, 1, 5, 2, 3), /permutation: position 2 holds column 5, the layer has 5 columns/],
    ] as const) {
      const error = thrownBy(() => unpackPermutation(packed, 5))
      expect(error).toBeInstanceOf(ShapeError)
      expect((error as Error).message).toMatch(message)
    }
  })
})

describe('restoreColumns', () => {
  it('undoes permuteColumns, and is undone by it', () => {
    fc.assert(
      fc.property(permutations, fc.integer({ min: 1, max: 5 }), (permutation, rows) => {
        const values = Float32Array.from({ length: rows * permutation.length }, (_, i) => i)
        const permuted = permuteColumns(values, permutation)
        const restored = permuted.slice()
        restoreColumns(restored, permutation)
        expect(restored).toEqual(values)
        expect(permuteColumns(restored, permutation)).toEqual(permuted)
      }),
    )
  })

  it('puts stored column j where permutation[j] says', () => {
    const values = Float32Array.of(10, 11, 12, 20, 21, 22)
    restoreColumns(values, Uint32Array.of(2, 0, 1))
    expect(values).toEqual(Float32Array.of(11, 12, 10, 21, 22, 20))
  })
})

describe('a layer whose columns were reordered', () => {
  it('stands for the columns of the same layer without, put in their places, and packs to the same bytes beside', () => {
    fc.assert(
      fc.property(layers, fc.nat(1e6), ({ permutation: _, ...plain }, seed) => {
        const { cols } = plain.layout
        const permutation = randomPermutation(cols, seed)
        const layer = { ...plain, permutation }
        const stored = dequantizeLayer(plain)
        const { data } = dequantizeLayer(layer)
        expect(permuteColumns(data, permutation)).toEqual(stored.data)
        const packed = packLayer(layer)
        expect(packed).toEqual({ ...packLayer(plain), permutation: packPermutation(permutation) })
        expect(packedBytes(packed)).toBe(packedBytes(packLayer(plain)) + permutationBytes(cols))
        const others = permutationBytes(cols) + (packed.widths?.length ?? 0)
        expect(bitsPerValue(packed).other).toBe((8 * others) / stored.data.length)
        expect(dequantizeLayer(unpackLayer(packed)).data).toEqual(data)
      }),
      { numRuns: 200 },
    )
  })

  it('is refused where the order does not fit its columns', () => {
    const layout = { rows: 3, cols: 10, vectorDim: 2, bits: 2, columnsPerGroup: 4, rowsPerGroup: 2 }
    const layer = { ...randomLayer(layout, 8, 1), permutation: randomPermutation(10, 1) }
    const packed = packLayer(layer)
    expect(() => unpackLayer({ ...packed, permutation: new Uint8Array(4) })).toThrow(
      /permutation: found 4 elements, a 3 x 10 layer .* needs 5/,
    )
    expect(() => unpackLayer({ ...packed, permutation: new Uint8Array(5) })).toThrow(
      /permutation: position 1 holds column 0/,
    )
    expect(() => dequantizeLayer({ ...layer, permutation: new Uint32Array(9) })).toThrow(
      /permutation: found 9 columns, the layer has 10/,
    )
  })

  it('keeps within bpv, its order counted, with the smallest groups that do', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 1, max: 500 }),
        fc.double({ min: 2.3, max: 5, noNaN: true }),
        (rows, cols, bpv) => {
          const settings = resolveLayoutOptions({ bpv, columnsPerGroup: 64, columnOrder: 'activation' })
          const bitsOf = (layout: typeof met) => {
            const permutation = randomPermutation(cols, 1)
            return 8 * packedBytes(packLayer({ ...emptyLayer(layout, 8), permutation }))
          }
          let met: ReturnType<typeof layoutOf>
          try {
            met = layoutOf(rows, cols, settings)
          } catch (error) {
            const [, least] = /already takes ([\d.]+);/.exec((error as Error).message) ?? []
            expect(Number(least)).toBeGreaterThan(bpv)
            return
          }
          const allowed = bpv * rows * cols * (1 + 1e-11)
          expect(bitsOf(met)).toBeLessThanOrEqual(allowed)
          if (met.rowsPerGroup > 1) {
            expect(bitsOf({ ...met, rowsPerGroup: met.rowsPerGroup - 1 })).toBeGreaterThan(allowed)
          }
        },
      ),
    )
  })
})
