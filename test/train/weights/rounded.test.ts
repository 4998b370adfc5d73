import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { matrix } from '../../../src/common/matrix.js'
import { randomGenerator, randomNormal } from '../../../src/common/random.js'
import { halfToFloat } from '../../../src/kernels/half.js'
import { dequantizeScalar, groupsPerRow, type ScalarLayer } from '../../../src/packing/scalar-layer.js'
import { isOnGrid, nearest } from '../../../src/train/weights/grid.js'
import { trainableLowRank } from '../../../src/train/weights/low-rank.js'
import { trainableScalar } from '../../../src/train/weights/scalar.js'
import type { Floats, Trainable } from '../../../src/train/weights/trainable.js'
import { scalarLayers } from '../../packing/scalar-layers.js'

const normals = (length: number, seed: number) => {
  const random = randomGenerator(seed)
  return Float32Array.from({ length }, () => randomNormal(random))
}

const fullOf = ({ rows, cols }: ScalarLayer, seed: number) =>
  matrix(rows, cols, normals(rows * cols, seed + 7))

const ranks = { rank: 3, frozenBits: 8, scaleRate: 1, seed: 5 } as const

it('the nearest code is that of Math.round, and beyond the grid it is clipped', () => {
  const values = fc.oneof(
    fc.float({ noNaN: true, min: -20, max: 300 }),
    fc.integer({ min: -40, max: 600 }).map((n) => n / 2),
  )
  fc.assert(
    fc.property(values, fc.integer({ min: 1, max: 8 }), (value, bits) => {
      const most = 2 ** bits - 1
      const rounded = Math.round(value)
      expect(nearest(value, most)).toBe(Math.min(most, Math.max(0, rounded)) + 0)
      expect(isOnGrid(value, most)).toBe(rounded >= 0 && rounded <= most)
    }),
  )
})

const makers: Record<string, (layer: ScalarLayer, seed: number) => Trainable> = {
  'all of the weight': (layer, seed) => trainableScalar(fullOf(layer, seed), layer, 1),
  'factors of low rank': (layer, seed) => trainableLowRank(fullOf(layer, seed), layer, ranks),
}

describe.each(Object.entries(makers))('a scalar layer trained by %s', (_, make) => {
  it('starts as the layer that it is given, to the bit, and stays so while nothing moves', () => {
    fc.assert(
      fc.property(scalarLayers, fc.nat(1e6), (layer, seed) => {
        const trainable = make(layer, seed)
        expect(trainable.layer!()).toEqual(layer)
        trainable.refresh()
        expect(trainable.layer!()).toEqual(layer)
        expect(trainable.values()).toEqual(dequantizeScalar(layer).data)
      }),
    )
  })

  it('runs as what it would store, wherever its parameters are', () => {
    fc.assert(
      fc.property(scalarLayers, fc.nat(1e6), (layer, seed) => {
        const trainable = make(layer, seed)
        shake(trainable, seed, 2)
        const stored = trainable.layer!() as ScalarLayer
        expect(trainable.values()).toEqual(dequantizeScalar(stored).data)
        expect(Math.max(...stored.codes)).toBeLessThan(2 ** layer.bits)
        expect(stored.scales.every((scale) => halfToFloat(scale) > 0)).toBe(true)
        expect(stored.zeros).toEqual(layer.zeros)
      }),
    )
  })

  it('leaves the layer that it is given as it is, and what it hands out', () => {
    fc.assert(
      fc.property(scalarLayers, (layer) => {
        const before = structuredClone(layer)
        const trainable = make(layer, 1)
        const handed = trainable.layer!()
        const copy = structuredClone(handed)
        shake(trainable, 2, 2)
        expect(layer).toEqual(before)
        expect(handed).toEqual(copy)
      }),
    )
  })
})

describe('straight-through gradients equal finite differences with the rounding held fixed', () => {
  it('of weights and scales', () => {
    fc.assert(
      fc.property(scalarLayers, fc.nat(1e6), (layer, seed) => {
        const trainable = trainableScalar(fullOf(layer, seed), layer, 1)
        const [weights, scales] = trainable.parameters.map(({ values }) => values)
        const shift = normals(weights.length, seed + 1)
        for (let i = 0; i < weights.length; i++) weights[i] += shift[i]
        trainable.refresh()
        const { codes } = trainable.layer!() as ScalarLayer
        const place = (at: number) => weights[at] + layer.zeros[groupOf(layer, at)]
        const weightAt = (at: number, weight: number, factor: number) => {
          const group = groupOf(layer, at)
          const scale = halfToFloat(layer.scales[group])
          const code = codes[at] - layer.zeros[group]
          if (Math.round(place(at)) !== codes[at]) return scale * factor * code
          return scale * factor * (weight / factor + code - weights[at])
        }
        checkSlopes(trainable, [weights, scales], seed, ([moved, factors]) =>
          Float64Array.from(weights, (_, at) => weightAt(at, moved[at], factors[groupOf(layer, at)])),
        )
      }),
      { numRuns: 40 },
    )
  })

  it('of factors and scales', () => {
    fc.assert(
      fc.property(scalarLayers, fc.nat(1e6), (layer, seed) => {
        const { rank } = ranks
        const trainable = trainableLowRank(fullOf(layer, seed), layer, ranks)
        const parameters = trainable.parameters.map(({ values }) => values)
        const [left, right] = parameters
        right.set(normals(right.length, seed + 1))
        trainable.refresh()
        const { codes } = trainable.layer!() as ScalarLayer
        const places = placesOf(layer, fullOf(layer, seed).data)
        const product = (a: Floats, b: Floats, at: number) => {
          const [row, col] = [Math.floor(at / layer.cols), at % layer.cols]
          let sum = 0
          for (let i = 0; i < rank; i++) sum += a[row * rank + i] * b[i * layer.cols + col]
          return sum
        }
        checkSlopes(trainable, parameters, seed, ([a, b, factors]) =>
          Float64Array.from(codes, (code, at) => {
            const group = groupOf(layer, at)
            const scale = halfToFloat(layer.scales[group]) * factors[group]
            const own = product(left, right, at)
            const isInside = Math.round(places[at] + own) === code
            const move = isInside ? product(a, b, at) - own : 0
            return scale * (code - layer.zeros[group] + move)
          }),
        )
      }),
      { numRuns: 40 },
    )
  })
})

it('a weight starts at its full value, but a quarter of a step inside the cell of its code', () => {
  const layer: ScalarLayer = {
    ...{ rows: 1, cols: 4, bits: 2, groupSize: 4 },
    codes: Uint8Array.of(0, 1, 2, 3),
    scales: Uint16Array.of(0x3c00),
    zeros: Uint8Array.of(1),
  }
  const full = matrix(1, 4, Float32Array.of(-1.2, 0.2, 5, -9))
  const [weights] = trainableScalar(full, layer, 1).parameters
  expect(weights.values[0]).toBeCloseTo(-1.2, 6)
  expect(weights.values[1]).toBeCloseTo(0.2, 6)
  expect(weights.values[2]).toBeCloseTo(1.25, 6)
  expect(weights.values[3]).toBeCloseTo(1.75, 6)
})

it('no code falls back to the nearest one of its full weight while weights move by less than a quarter of a step', () => {
  fc.assert(
    fc.property(scalarLayers, fc.nat(1e6), (layer, seed) => {
      const trainable = trainableScalar(fullOf(layer, seed), layer, 1)
      const [weights] = trainable.parameters
      normals(weights.values.length, seed).forEach((move, i) => {
        weights.values[i] += 0.24 * Math.sign(move)
      })
      trainable.refresh()
      expect(trainable.layer!()).toEqual(layer)
    }),
  )
})

it('nor does one with factors of low rank, at 2 bits with 8 of the frozen weight', () => {
  fc.assert(
    fc.property(scalarLayers, fc.nat(1e6), (any, seed) => {
      const layer: ScalarLayer = {
        ...any,
        bits: 2,
        codes: any.codes.map((code) => code & 3),
        zeros: any.zeros.map((zero) => zero & 3),
      }
      const trainable = trainableLowRank(fullOf(layer, seed), layer, { ...ranks, rank: 1 })
      const [left, right] = trainable.parameters
      left.values.fill(0.24)
      right.values.set(normals(right.values.length, seed).map(Math.sign))
      trainable.refresh()
      expect(trainable.layer!()).toEqual(layer)
    }),
  )
})

it('factors of low rank need a third of the memory of all weights, and less the larger the layer', () => {
  const share = (size: number) => {
    const layer: ScalarLayer = {
      ...{ rows: size, cols: size, bits: 4, groupSize: 128 },
      codes: new Uint8Array(size * size),
      scales: new Uint16Array((size * size) / 128).fill(0x3c00),
      zeros: new Uint8Array((size * size) / 128),
    }
    const full = matrix(size, size, new Float32Array(size * size))
    const bytes = ({ parameters }: Trainable) =>
      parameters.reduce((sum, { values }) => sum + values.byteLength, 0)
    const lowRank = trainableLowRank(full, layer, { ...ranks, rank: 16 })
    return bytes(lowRank) / bytes(trainableScalar(full, layer, 1))
  }
  expect(share(128)).toBeLessThan(1 / 3)
  expect(share(512)).toBeLessThan(share(128) / 3)
})

/** Moves all parameters at random. */
function shake(trainable: Trainable, seed: number, size: number): void {
  for (const { values } of trainable.parameters) {
    const moves = normals(values.length, seed + values.length)
    for (let i = 0; i < values.length; i++) values[i] += size * moves[i]
  }
  trainable.refresh()
}

function groupOf({ cols, groupSize }: ScalarLayer, at: number): number {
  return Math.floor(at / cols) * groupsPerRow(cols, groupSize) + Math.floor((at % cols) / groupSize)
}

/** Where in code space 8-bit fixed point puts the full weights: in the middle half of the cells of their codes. */
function placesOf(layer: ScalarLayer, full: Float32Array): Float64Array {
  const places = 2 ** (8 - layer.bits)
  const edge = Math.floor(places / 4)
  return Float64Array.from(full, (value, at) => {
    const group = groupOf(layer, at)
    const wanted = value / halfToFloat(layer.scales[group]) + layer.zeros[group]
    const low = layer.codes[at] - 0.5
    const place = Math.floor((wanted - low) * places)
    return low + (Math.min(places - 1 - edge, Math.max(edge, place)) + 0.5) / places
  })
}

/** Holds the gradient of `sum(slope * w)` against differences of `weightsAt`, in float64, along random directions. */
function checkSlopes(
  trainable: Trainable,
  parameters: readonly Floats[],
  seed: number,
  weightsAt: (parameters: readonly Float64Array[]) => Float64Array,
): void {
  const slopes = normals(trainable.values().length, seed + 3)
  const gradients = parameters.map(({ length }) => new Float32Array(length))
  trainable.addGradient(slopes, gradients)
  for (const [i, gradient] of gradients.entries()) {
    const direction = normals(gradient.length, seed + 4)
    const at = (by: number) => {
      const moved = parameters.map((values, j) =>
        Float64Array.from(values, (value, k) => (i === j ? value + by * direction[k] : value)),
      )
      return weightsAt(moved).reduce((sum, weight, k) => sum + weight * slopes[k], 0)
    }
    const expected = (at(1e-4) - at(-1e-4)) / 2e-4
    const found = gradient.reduce((sum, value, k) => sum + value * direction[k], 0)
    const size = Math.sqrt(gradient.reduce((sum, value) => sum + value * value, 0) * gradient.length)
    expect(Math.abs(found - expected)).toBeLessThanOrEqual(1e-4 * size + 1e-4)
  }
}
