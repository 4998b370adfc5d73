import fc from 'fast-check'
import type { AttentionTask, ForwardKernels, HeldRows } from '../../src/kernels/forward-contract.js'
import { normals } from '../support/random-matrix.js'
import { unwritten, withArrays, withinLarger } from './forward-arrays.js'

export interface AttentionShape extends Omit<AttentionTask, 'queries' | 'keys' | 'values' | 'output'> {
  readonly seed: number
  /** Keys and values are codes with scales. */
  readonly isInt8?: boolean
}

/** Shapes of attention with few heads, apart from what is given. */
export function attentionShapes(own: {
  readonly sequences: fc.Arbitrary<number>
  readonly length: fc.Arbitrary<number>
  readonly group: fc.Arbitrary<number>
  readonly window: fc.Arbitrary<number>
  readonly isInt8: fc.Arbitrary<boolean>
}): fc.Arbitrary<AttentionShape> {
  return fc
    .record({
      sequences: own.sequences,
      length: own.length,
      position: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 70 })),
      room: fc.integer({ min: 0, max: 5 }),
      kvHeads: fc.integer({ min: 1, max: 3 }),
      group: own.group,
      headDim: fc.integer({ min: 1, max: 37 }),
      scale: fc.constantFrom(0.1, 0.25, -0.3),
      softCap: fc.option(fc.constantFrom(0.5, 2, 50), { nil: undefined }),
      window: fc.option(own.window, { nil: undefined }),
      seed: fc.nat(1e6),
      isInt8: own.isInt8,
    })
    .map(({ group, room, ...shape }) => ({
      ...shape,
      heads: group * shape.kvHeads,
      capacity: shape.position + shape.length + room,
    }))
}

/** What attention of these sizes gives, of random vectors. */
export function attend(
  kernels: ForwardKernels,
  { seed, isInt8 = false, ...shape }: AttentionShape,
): Float32Array {
  const { sequences, length, capacity, heads, kvHeads, headDim } = shape
  const queries = normals(sequences * length * heads * headDim, seed, 2)
  const runs = sequences * capacity * kvHeads
  // what lies behind the last position may be anything
  const isThere = (run: number) => Math.floor(run / kvHeads) % capacity < shape.position + length
  const [keys, values] = [1, 2].map((i) => {
    const cached = normals(runs * headDim, seed + i, 2)
    return cached.map((value, at) => (isThere(Math.floor(at / headDim)) ? value : Number.NaN))
  })
  const [keyScales, valueScales] = [3, 4].map((i) => {
    const scales = normals(runs, seed + i, 2 ** -6)
    return scales.map((scale, run) => (isThere(run) ? scale : Number.NaN))
  })
  return withArrays(kernels, [queries, keys, values, keyScales, valueScales], (q, k, v, ofKeys, ofValues) => {
    const held = (rows: Float32Array, scales: Float32Array): HeldRows =>
      isInt8 ? { codes: asCodes(rows), scales } : rows
    return withinLarger(kernels, unwritten(queries.length), (output) =>
      kernels.attend({ ...shape, queries: q, keys: held(k, ofKeys), values: held(v, ofValues), output }),
    )
  })
}

/** As many codes, in the memory of the values they are made of. */
function asCodes(rows: Float32Array): Int8Array {
  const codes = Int8Array.from(rows, (value) => Math.max(-127, Math.min(127, Math.round(40 * value))))
  const held = new Int8Array(rows.buffer, rows.byteOffset, rows.length)
  held.set(codes)
  return held
}

/** Few small queries of a single head. */
export const plain: AttentionShape = {
  sequences: 1,
  length: 8,
  position: 0,
  capacity: 8,
  heads: 1,
  kvHeads: 1,
  headDim: 2,
  scale: Math.SQRT1_2,
  softCap: undefined,
  window: undefined,
  seed: 5,
}
