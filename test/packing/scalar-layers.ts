import fc from 'fast-check'
import { randomGenerator } from '../../src/common/random.js'
import { floatToHalf } from '../../src/kernels/half.js'
import type { ScalarLayer } from '../../src/packing/scalar-layer.js'

/** Random codes, scales and zero points. */
export function randomScalarLayer({
  seed,
  ...shape
}: Pick<ScalarLayer, 'rows' | 'cols' | 'bits' | 'groupSize'> & { readonly seed: number }): ScalarLayer {
  const { rows, cols, bits, groupSize } = shape
  const random = randomGenerator(seed)
  const groups = rows * Math.ceil(cols / groupSize)
  const code = () => Math.floor(random() * 2 ** bits)
  return {
    ...shape,
    codes: Uint8Array.from({ length: rows * cols }, code),
    scales: Uint16Array.from({ length: groups }, () => floatToHalf(random() + 0.01)),
    zeros: Uint8Array.from({ length: groups }, code),
  }
}

/** Scalar layers of any shape with random codes, scales and zero points. */
export const scalarLayers: fc.Arbitrary<ScalarLayer> = fc
  .record({
    rows: fc.integer({ min: 1, max: 9 }),
    cols: fc.integer({ min: 1, max: 50 }),
    bits: fc.integer({ min: 1, max: 8 }),
    groupSize: fc.integer({ min: 1, max: 60 }),
    seed: fc.nat(1e6),
  })
  .map(randomScalarLayer)
