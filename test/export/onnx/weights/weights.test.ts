import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { randomGenerator } from '../../../../src/common/random.js'
import {
  digitsOf,
  joinDigits,
  packStream,
  readCodes,
  readDigits,
  streamBytes,
} from '../../../../src/export/onnx/decoder/windows.js'
import { cast, createGraph, input, ints, node, reshape } from '../../../../src/export/onnx/graph.js'
import {
  fitsBlocks,
  scalarProduct,
  scalarRowsOf,
  scalarValues,
  scalarWeight,
} from '../../../../src/export/onnx/weights/scalar-weight.js'
import { vqWeight } from '../../../../src/export/onnx/weights/vq-weight.js'
import { floatToHalf } from '../../../../src/kernels/half.js'
import { packLayer } from '../../../../src/packing/pack-layer.js'
import { restoreColumns } from '../../../../src/packing/permutation.js'
import { dequantizeScalar, packScalar, type ScalarLayer } from '../../../../src/packing/scalar-layer.js'
import { keysOfIndices } from '../../../../src/packing/trellis-keys.js'
import {
  dequantizeLayer,
  emptyLayer,
  type VqLayer,
  type VqLayout,
  vectorsPerRow,
} from '../../../../src/packing/vq-layer.js'
import { randomScalarLayer } from '../../../packing/scalar-layers.js'
import { runGraph } from '../run-graph.js'

/** The largest difference as a share of the largest value. */
function worstShare(found: readonly number[], wanted: Float32Array): number {
  expect(found.length).toBe(wanted.length)
  const most = wanted.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1e-30)
  return found.reduce((worst, value, i) => Math.max(worst, Math.abs(value - wanted[i])), 0) / most
}

/** Two roundings of float32 in another order. */
const ROUNDING = 4e-7

describe('numbers in streams of bits', () => {
  it('are those of the plain definition, whatever step, width and restart', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 16 }),
        fc.integer({ min: 0, max: 15 }),
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 40 }),
        fc.constantFrom(0 as const, 1 as const),
        fc.integer(),
        fc.integer({ min: 1, max: 16 }),
        async (stated, more, count, restart, axis, seed, preferred) => {
          // along rows there are codes of up to 8 bits
          const most = axis === 1 ? 8 : 16
          const step = Math.min(most, stated)
          const bits = Math.min(most, step + more)
          const streams = 3
          const random = randomGenerator(seed)
          const codes = Array.from({ length: streams * count }, () => Math.floor(random() * 2 ** step))
          const bytes = streamBytes({ count, step })
          const data = new Uint8Array(streams * bytes)
          for (let s = 0; s < streams; s++) {
            const [start, stride] = axis === 0 ? [s, streams] : [s * bytes, 1]
            packStream((place) => codes[s * count + place], { count, step }, data, start, stride)
          }
          const { values, dims } = await runGraph(async (graph) => {
            const dims = axis === 0 ? [bytes, streams, 1] : [streams, bytes]
            graph.initializers.push({ name: 'data', type: 'uint8', dims, data })
            const windows = { count, step, bits, restart }
            if (axis === 1) {
              return { value: cast(graph, readCodes(graph, 'data', 2, windows), 'int32'), type: 'int32' }
            }
            const digits = digitsOf(bits, preferred)
            const read = joinDigits(graph, readDigits(graph, 'data', 3, windows, digits), digits)
            return { value: reshape(graph, read, count, streams), type: 'int32' }
          })
          expect(dims).toEqual(axis === 0 ? [count, streams] : [streams, count])
          for (let s = 0; s < streams; s++) {
            let key = 0
            for (let place = 0; place < count; place++) {
              const above = place % restart === 0 ? 0 : key
              key = (above * 2 ** step + codes[s * count + place]) % 2 ** bits
              expect(values[axis === 0 ? place * streams + s : s * count + place]).toBe(key)
            }
          }
        },
      ),
      { numRuns: 60 },
    )
  })
})

interface VqCase {
  readonly layout: VqLayout
  readonly codebookBits?: 8 | 16
  readonly permuted?: boolean
}

const plain = { rows: 20, cols: 32, vectorDim: 2, bits: 2, columnsPerGroup: 16, rowsPerGroup: 8 }
const cases: Record<string, VqCase> = {
  'one codebook': { layout: { ...plain, columnsPerGroup: 32, rowsPerGroup: 20 } },
  'groups in both directions, the last ones smaller': { layout: { ...plain, cols: 38 } },
  'codebooks of halves': { layout: plain, codebookBits: 16 },
  'scales of blocks': { layout: { ...plain, scaleBlockSize: 16 } },
  'scales of blocks that do not divide the row': {
    layout: { ...plain, cols: 70, columnsPerGroup: 32, scaleBlockSize: 16 },
  },
  'a last vector that is cut short': { layout: { ...plain, cols: 35, vectorDim: 4, bits: 1 } },
  'indices of 10 bits': { layout: { ...plain, bits: 5 } },
  'indices of 16 bits': {
    layout: { ...plain, vectorDim: 4, bits: 4, columnsPerGroup: 32, rowsPerGroup: 20 },
  },
  'columns in another order': { layout: { ...plain, scaleBlockSize: 16 }, permuted: true },
  'a trellis': { layout: { ...plain, trellis: { keyBits: 12, widths: new Uint8Array(16).fill(4) } } },
  'a trellis of several widths, with scales': {
    layout: {
      ...plain,
      rows: 37,
      scaleBlockSize: 16,
      trellis: { keyBits: 12, widths: Uint8Array.from({ length: 16 }, (_, v) => 2 + ((v * 7) % 4)) },
    },
  },
  'a trellis of single weights of several widths, with scales': {
    layout: {
      ...plain,
      rows: 37,
      vectorDim: 1,
      scaleBlockSize: 16,
      trellis: { keyBits: 12, widths: Uint8Array.from({ length: 32 }, (_, v) => 2 + ((v * 5) % 8)) },
    },
  },
  'a trellis of short keys, reordered': {
    layout: { ...plain, vectorDim: 1, trellis: { keyBits: 7, widths: new Uint8Array(32).fill(1) } },
    permuted: true,
  },
}

function randomLayer({ layout, codebookBits = 8, permuted }: VqCase): VqLayer {
  const random = randomGenerator(5)
  const widths = layout.trellis?.widths
  const perRow = vectorsPerRow(layout)
  const filled = emptyLayer(layout, codebookBits, 0.75)
  for (let i = 0; i < filled.indices.length; i++) {
    filled.indices[i] = Math.floor(random() * 2 ** (widths?.[i % perRow] ?? layout.bits * layout.vectorDim))
  }
  if (layout.trellis) keysOfIndices(layout, filled.indices)
  else {
    for (let i = 0; i < filled.codebooks.length; i++) {
      filled.codebooks[i] = codebookBits === 8 ? random() * 255 - 127 : floatToHalf(random() - 0.5)
    }
  }
  for (let i = 0; i < filled.codebookScales.length; i++) filled.codebookScales[i] = 2 ** -(2 + (i % 4))
  filled.blockScales?.codes.forEach((_, i, codes) => {
    codes[i] = Math.floor(random() * 16)
  })
  if (!permuted) return filled
  const permutation = Uint32Array.from({ length: layout.cols }, (_, j) => (j * 5 + 3) % layout.cols)
  return { ...filled, permutation }
}

describe('a layer of vectors, decoded in the graph', () => {
  it.each(Object.entries(cases))('%s: the weights that it stands for', async (_, one) => {
    const layer = randomLayer(one)
    let permutation: Uint32Array | undefined
    const { values } = await runGraph(async (graph) => {
      const added = await vqWeight(graph, 'w', packLayer(layer))
      permutation = added.permutation
      return { value: added.value, type: 'float32' }
    })
    const found = Float32Array.from(values)
    if (permutation) restoreColumns(found, permutation)
    expect(worstShare([...found], dequantizeLayer(layer).data)).toBeLessThan(ROUNDING)
  })
})

function randomScalar(rows: number, cols: number, bits: number, groupSize: number): ScalarLayer {
  return randomScalarLayer({ rows, cols, bits, groupSize, seed: 9 })
}

describe('a layer of scalars, decoded in the graph', () => {
  it.each([
    [2, 32, 16],
    [3, 40, 16],
    [4, 33, 128],
    [5, 21, 7],
    [8, 32, 32],
  ])(
    'of %i bits, %i columns, groups of %i: the weights that it stands for, all or some rows',
    async (bits, cols, groupSize) => {
      const layer = randomScalar(11, cols, bits, groupSize)
      const wanted = dequantizeScalar(layer).data
      const all = await runGraph(async (graph) => ({
        value: scalarValues(graph, await scalarWeight(graph, 'w', packScalar(layer))),
        type: 'float32',
      }))
      expect(all.values).toEqual([...wanted])
      const some = await runGraph(async (graph) => ({
        value: scalarRowsOf(graph, await scalarWeight(graph, 'w', packScalar(layer)), ints(graph, 10, 0, 10)),
        type: 'float32',
      }))
      expect(some.values).toEqual(
        [10, 0, 10].flatMap((row) => [...wanted.subarray(row * cols, (row + 1) * cols)]),
      )
    },
  )

  it.each([
    [4, 64, 32],
    [3, 48, 32],
    [2, 32, 16],
    [4, 80, 128],
  ])('of %i bits, %i columns, groups of %i: multiplied as it is', async (bits, cols, groupSize) => {
    const layer = randomScalar(11, cols, bits, groupSize)
    const packed = packScalar(layer)
    expect(fitsBlocks(packed)).toBe(true)
    const unit = Float32Array.from({ length: cols * cols }, (_, i) => (i % (cols + 1) === 0 ? 1 : 0))
    const { values } = await runGraph(async (graph) => {
      graph.initializers.push({
        name: 'x',
        type: 'float32',
        dims: [cols, cols],
        data: new Uint8Array(unit.buffer),
      })
      const multiply = await scalarProduct(graph, 'w', packed)
      return { value: node(graph, 'Transpose', [multiply('x')], { perm: [1, 0] }), type: 'float32' }
    })
    expect(worstShare(values, dequantizeScalar(layer).data)).toBeLessThan(ROUNDING)
  })

  it('does not fit where groups are no blocks, or codes have more bits', () => {
    expect(fitsBlocks(packScalar(randomScalar(4, 24, 4, 24)))).toBe(false)
    expect(fitsBlocks(packScalar(randomScalar(4, 32, 4, 8)))).toBe(false)
    expect(fitsBlocks(packScalar(randomScalar(4, 32, 8, 32)))).toBe(false)
  })
})

describe('a graph', () => {
  it('makes the same value once', () => {
    const graph = createGraph(() => Promise.reject(new Error('nothing is stored')))
    const x = input(graph, { name: 'x', type: 'float32', dims: [2] })
    const twice = [1, 2].map(() => node(graph, 'Reshape', [x, ints(graph, -1, 2)]))
    expect(twice[0]).toBe(twice[1])
    expect([graph.nodes.length, graph.initializers.length]).toEqual([1, 1])
  })
})
