import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ShapeError } from '../../src/common/errors.js'
import { randomGenerator } from '../../src/common/random.js'
import { wholeBlock } from '../../src/kernels/contract.js'
import type { ForwardKernels } from '../../src/kernels/forward-contract.js'
import {
  type CodebookValues,
  type PackedActivations,
  readsTables,
  segmentsOf,
} from '../../src/kernels/packed-contract.js'
import { referenceForwardKernels } from '../../src/kernels/reference/forward.js'
import { expandPacked } from '../../src/kernels/reference/packed.js'
import { permuteColumns } from '../../src/packing/permutation.js'
import type { QuantizedLayer } from '../../src/packing/quantized-layer.js'
import { normals } from '../support/random-matrix.js'
import { builds, isSame, onThreads, startForwardKernels, unwritten, withArrays } from './forward-arrays.js'
import {
  anyLayers,
  evenLayers,
  factorOf,
  shapeOf,
  sourceOf,
  tallLayers,
  tallPairs,
  weightsOf,
  wholePairs,
} from './packed-weights.js'

const anyLayer = fc.oneof(anyLayers, evenLayers)
const anyOrTall = fc.oneof(anyLayer, tallPairs)
const finenesses: readonly PackedActivations[] = ['float32', 'int16', 'int8']
/** What of `max|x| sum|w|` of a segment a product may be off by. */
const roundings = { float32: 2 ** -29, int16: 2 ** -15, int8: 2 ** -7 }
/** Rows of X up to which that holds; in float32 more have a test of their own. */
const mostRows = { float32: 4, int16: 11, int8: 11 }

/** `X W^T` by `kernels`, whose X and Y are in their memory. */
function multiply(
  kernels: ForwardKernels,
  layer: QuantizedLayer,
  x: Float32Array,
  m: number,
  activations?: PackedActivations,
): Float32Array {
  const { rows, cols } = shapeOf(layer)
  const weight = kernels.preparePacked(sourceOf(layer))
  try {
    return withArrays(kernels, [x, unwritten(m * rows)], (input, output) => {
      kernels.multiplyPacked(m, wholeBlock(input, cols), weight, wholeBlock(output, rows), activations)
      return output.slice()
    })
  } finally {
    kernels.releasePacked(weight)
  }
}

/** How far each element of a product may be off, and what it is in float64. */
function expected(layer: QuantizedLayer, x: Float32Array, m: number, activations: PackedActivations) {
  const { rows, cols } = shapeOf(layer)
  const { natural, stored } = weightsOf(layer)
  const permutation = 'layout' in layer ? layer.permutation : undefined
  const products = new Float64Array(m * rows)
  const bounds = new Float64Array(m * rows)
  const segments = segmentsOf(sourceOf(layer))
  for (let i = 0; i < m; i++) {
    const own = x.subarray(i * cols, (i + 1) * cols)
    const ordered = permutation ? Float32Array.from(permutation, (column) => own[column]) : own
    for (let r = 0; r < rows; r++) {
      const at = i * rows + r
      for (let j = 0; j < cols; j++) {
        products[at] += own[j] * natural[r * cols + j]
        bounds[at] += 2 ** -22 * Math.abs(own[j] * natural[r * cols + j])
      }
      for (const { start, end } of segments) {
        let [largest, sum] = [0, 0]
        for (let j = start; j < end; j++) {
          const factor = factorOf(layer, j)
          largest = Math.max(largest, Math.abs(ordered[j] * factor))
          sum += Math.abs(stored[r * cols + j]) / factor
        }
        bounds[at] += roundings[activations] * largest * sum
      }
    }
  }
  return { products, bounds }
}

it('the reference expands a layer to the floats it stands for', () => {
  fc.assert(
    fc.property(anyLayer, fc.nat(100), (layer, seed) => {
      const { stored } = weightsOf(layer)
      const { rows, cols } = shapeOf(layer)
      const first = seed % rows
      const count = 1 + (seed % (rows - first))
      const expanded = expandPacked(sourceOf(layer), first, count)
      expect(expanded).toEqual(stored.slice(first * cols, (first + count) * cols))
    }),
  )
})

describe.each(['reference', ...builds] as const)('products with packed weights, %s', (build) => {
  const { pool, kernels } =
    build === 'reference' ? { pool: undefined, kernels: referenceForwardKernels } : startForwardKernels(build)

  it.each([
    ['any layer', anyLayer, 50],
    ['tall row groups of a trellis', tallLayers, 8],
    ['codebooks that serve many rows', tallPairs, 12],
  ] as const)('of %s are within the stated bound of float64', (_, layers, numRuns) => {
    for (const activations of finenesses) {
      fc.assert(
        fc.property(
          layers,
          fc.integer({ min: 1, max: mostRows[activations] }),
          fc.nat(1e6),
          (layer, m, seed) => {
            const x = normals(m * shapeOf(layer).cols, seed, 2)
            const { products, bounds } = expected(layer, x, m, activations)
            const actual = multiply(kernels, layer, x, m, activations)
            const off = actual.findIndex((value, i) => !(Math.abs(value - products[i]) <= bounds[i]))
            expect(
              off < 0 ? undefined : [activations, off, actual[off], products[off], bounds[off]],
            ).toBeUndefined()
          },
        ),
        { numRuns },
      )
    }
  })

  it.each(['int16', 'int8'] as const)('round activations as the reference does: %s', (activations) => {
    fc.assert(
      fc.property(anyOrTall, fc.integer({ min: 1, max: 9 }), fc.nat(1e6), (layer, m, seed) => {
        const x = normals(m * shapeOf(layer).cols, seed, 2)
        const actual = multiply(kernels, layer, x, m, activations)
        const plain = multiply(referenceForwardKernels, layer, x, m, activations)
        const { rows, cols } = shapeOf(layer)
        const { natural } = weightsOf(layer)
        const largest = x.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
        const off = actual.findIndex((value, i) => {
          const start = (i % rows) * cols
          const sum = natural.subarray(start, start + cols).reduce((a, b) => a + Math.abs(b), 0)
          return !(Math.abs(value - plain[i]) <= 2 ** -21 * largest * sum)
        })
        expect(off < 0 ? undefined : [off, actual[off], plain[off]]).toBeUndefined()
      }),
      { numRuns: 25 },
    )
  })

  it('of whole numbers up to 127 are exact where activations are int8', () => {
    fc.assert(
      fc.property(wholePairs, fc.integer({ min: 1, max: 9 }), fc.nat(1e6), (layer, m, seed) => {
        const { rows, cols } = layer.layout
        fc.pre(!readsTables(sourceOf(layer), segmentsOf(sourceOf(layer))))
        const random = randomGenerator(seed)
        const x = Float32Array.from({ length: m * cols }, () => Math.floor(random() * 255) - 127)
        // a step of 1 in each segment
        for (const { start } of segmentsOf(sourceOf(layer))) {
          for (let i = 0; i < m; i++) x[i * cols + start] = random() < 0.5 ? -127 : 127
        }
        const { natural } = weightsOf(layer)
        const products = Float32Array.from({ length: m * rows }, (_, at) => {
          const [i, r] = [Math.floor(at / rows), at % rows]
          let sum = 0
          for (let j = 0; j < cols; j++) sum += x[i * cols + j] * natural[r * cols + j]
          return sum
        })
        expect(multiply(kernels, layer, x, m, 'int8')).toEqual(products)
      }),
      { numRuns: 50 },
    )
  })

  it('read from tables are sums of rounded products, bit for bit', () => {
    fc.assert(
      fc.property(tallPairs, fc.integer({ min: 1, max: 3 }), fc.nat(1e6), (layer, m, seed) => {
        const { rows, cols } = layer.layout
        const source = sourceOf(layer)
        const values = source.values as CodebookValues
        const scales = values.scales.map(() => 1)
        const plain = { ...source, values: { ...values, scales, blocks: undefined } }
        const segments = segmentsOf(plain)
        fc.pre(readsTables(plain, segments))
        const random = randomGenerator(seed)
        const ordered = Float32Array.from({ length: m * cols }, () => Math.floor(random() * 32767) - 16383)
        // a step of 1 in each segment
        for (const { start } of segments) {
          for (let i = 0; i < m; i++) ordered[i * cols + start] = random() < 0.5 ? -16383 : 16383
        }
        const elements = expandPacked(plain, 0, rows)
        const products = Float32Array.from({ length: m * rows }, (_, at) => {
          const [i, r] = [Math.floor(at / rows), at % rows]
          let sum = 0
          for (let j = 0; j < cols; j++)
            sum += Math.round((elements[r * cols + j] * ordered[i * cols + j]) / 128)
          return 128 * sum
        })
        const x = new Float32Array(m * cols)
        for (let at = 0; at < x.length; at++) {
          const column = at % cols
          x[at - column + (plain.permutation?.[column] ?? column)] = ordered[at]
        }
        const weight = kernels.preparePacked(plain)
        const y = new Float32Array(m * rows)
        kernels.multiplyPacked(m, wholeBlock(x, cols), weight, wholeBlock(y, rows), 'int8')
        kernels.releasePacked(weight)
        expect(y).toEqual(products)
      }),
      { numRuns: 30 },
    )
  })

  it('of more rows are those with the expanded weight, bit for bit, where nothing is rounded', () => {
    if (pool === undefined) return
    fc.assert(
      fc.property(anyOrTall, fc.integer({ min: 5, max: 9 }), fc.nat(1e6), (layer, m, seed) => {
        const { rows, cols } = shapeOf(layer)
        const permutation = 'layout' in layer ? layer.permutation : undefined
        const x = normals(m * cols, seed, 2)
        const ordered = permutation ? permuteColumns(x, permutation) : x
        const product = new Float32Array(m * rows)
        const [a, b] = [ordered, weightsOf(layer).stored].map((data) => wholeBlock(data, cols))
        kernels.gemm('ABt', m, rows, cols, 1, a, b, 0, wholeBlock(product, rows))
        expect(isSame(multiply(kernels, layer, x, m), product)).toBe(true)
      }),
      { numRuns: 25 },
    )
  })

  it('of many rows are within the bound too where nothing is rounded', () => {
    fc.assert(
      fc.property(anyLayer, fc.integer({ min: 5, max: 9 }), fc.nat(1e6), (layer, m, seed) => {
        const x = normals(m * shapeOf(layer).cols, seed, 2)
        const { products, bounds } = expected(layer, x, m, 'float32')
        const actual = multiply(kernels, layer, x, m)
        const off = actual.findIndex((value, i) => !(Math.abs(value - products[i]) <= 4 * bounds[i]))
        expect(off < 0 ? undefined : [off, actual[off], products[off], bounds[off]]).toBeUndefined()
      }),
      { numRuns: 25 },
    )
  })

  it('of many rounded rows give a row the same whatever is beside it', () => {
    if (pool === undefined) return
    fc.assert(
      fc.property(
        fc.oneof(evenLayers, tallLayers, tallPairs),
        fc.integer({ min: 250, max: 530 }),
        fc.nat(1e6),
        fc.constantFrom('int16', 'int8'),
        (layer, m, seed, activations) => {
          const { rows, cols } = shapeOf(layer)
          const x = normals(m * cols, seed, 2)
          const all = multiply(kernels, layer, x, m, activations)
          const first = seed % (m - 5)
          const own = multiply(kernels, layer, x.slice(first * cols, (first + 5) * cols), 5, activations)
          expect(isSame(all.slice(first * rows, (first + 5) * rows), own)).toBe(true)
        },
      ),
      { numRuns: 8 },
    )
  })

  it('do not depend on the number of threads', () => {
    if (pool === undefined) return
    fc.assert(
      fc.property(
        fc.oneof(evenLayers, tallLayers, tallPairs),
        fc.integer({ min: 1, max: 9 }),
        fc.constantFrom(...finenesses),
        (layer, m, activations) => {
          const x = normals(m * shapeOf(layer).cols, 1)
          const [one, two, three] = onThreads(pool, () => multiply(kernels, layer, x, m, activations))
          expect([isSame(one, two), isSame(one, three)]).toEqual([true, true])
        },
      ),
      { numRuns: 15 },
    )
  })

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])('let %s through', (value) => {
    fc.assert(
      fc.property(
        fc.oneof(evenLayers, tallPairs),
        fc.nat(1e6),
        fc.integer({ min: 1, max: 6 }),
        fc.constantFrom(...finenesses),
        (layer, at, m, activations) => {
          const { rows, cols } = shapeOf(layer)
          const x = normals(m * cols, at)
          x[at % cols] = value
          const actual = multiply(kernels, layer, x, m, activations)
          // a weight of 0 times infinity is NaN
          expect(actual.subarray(0, rows).every((y) => !Number.isFinite(y))).toBe(true)
          expect(actual.subarray(rows).every((y) => Number.isFinite(y))).toBe(true)
        },
      ),
      { numRuns: 15 },
    )
  })

  it('read and write parts of larger arrays, in their memory or not', () => {
    fc.assert(
      fc.property(
        anyOrTall,
        fc.integer({ min: 1, max: 6 }),
        fc.constantFrom(...finenesses),
        (layer, m, activations) => {
          const { rows, cols } = shapeOf(layer)
          const x = normals(m * cols, 3)
          const plain = multiply(kernels, layer, x, m, activations)
          const weight = kernels.preparePacked(sourceOf(layer))
          const wide = new Float32Array(2 + m * (cols + 3))
          for (let i = 0; i < m; i++) wide.set(x.subarray(i * cols, (i + 1) * cols), 2 + i * (cols + 3))
          const y = new Float32Array(1 + m * (rows + 2)).fill(7)
          const to = { data: y, offset: 1, stride: rows + 2 }
          kernels.multiplyPacked(m, { data: wide, offset: 2, stride: cols + 3 }, weight, to, activations)
          kernels.releasePacked(weight)
          for (let i = 0; i < m; i++) {
            const start = 1 + i * (rows + 2)
            expect(y.subarray(start, start + rows)).toEqual(plain.subarray(i * rows, (i + 1) * rows))
            expect(y[start + rows]).toBe(7)
          }
        },
      ),
      { numRuns: 15 },
    )
  })

  it('refuse a weight that was released', () => {
    const [layer] = fc.sample(evenLayers, { numRuns: 1, seed: 1 })
    const { rows, cols } = shapeOf(layer)
    const weight = kernels.preparePacked(sourceOf(layer))
    expect(weight).toMatchObject({ rows, cols })
    kernels.releasePacked(weight)
    const [x, y] = [new Float32Array(cols), new Float32Array(rows)]
    const use = () => kernels.multiplyPacked(1, wholeBlock(x, cols), weight, wholeBlock(y, rows))
    expect(use).toThrow(ShapeError)
    expect(() => kernels.releasePacked(weight)).toThrow(ShapeError)
  })
})
