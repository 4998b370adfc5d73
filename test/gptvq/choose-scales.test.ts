import { describe, expect, it } from 'vitest'
import { type Matrix, matrix } from '../../src/common/matrix.js'
import { randomGenerator } from '../../src/common/random.js'
import { resolveVqOptions } from '../../src/gptvq/options.js'
import { chooseScales, rechooseScales, scaleRatio } from '../../src/gptvq/scales/choose-scales.js'
import type { ColumnWalk } from '../../src/gptvq/walk/column-walk.js'
import { vectorMetrics } from '../../src/gptvq/walk/vector-metric.js'
import { scaleLevels } from '../../src/packing/block-scales.js'
import { decodeBlockScales, decodeCodebooks, emptyLayer, type VqLayout } from '../../src/packing/vq-layer.js'
import { gaussianMatrix } from '../support/random-matrix.js'

const LAYOUT: VqLayout = {
  rows: 10,
  cols: 160,
  vectorDim: 2,
  bits: 2,
  columnsPerGroup: 96,
  rowsPerGroup: 4,
  scaleBlockSize: 32,
}
const BLOCKS = 5

/** A walk that has reached the weights `work`, its factor random. */
function walkOf(layout: VqLayout, work: Matrix, ratio: number): ColumnWalk {
  const random = randomGenerator(9)
  const factor = matrix(work.cols, work.cols)
  for (let i = 0; i < work.cols; i++) {
    for (let j = i; j < work.cols; j++) factor.data[i * work.cols + j] = (i === j ? 1 : 0) + random() / 2
  }
  const layer = emptyLayer(layout, 8, Math.fround(ratio))
  return {
    layout,
    settings: resolveVqOptions({}),
    firstGroup: 0,
    work,
    factor,
    metrics: vectorMetrics(factor, layout.vectorDim, 'full'),
    layer,
    codebooks: decodeCodebooks(layer),
    scales: decodeBlockScales(layer),
  }
}

/** Weights of the same shape in each block, times what `sizeOf` says. */
function blocksOfSize(sizeOf: (row: number, block: number) => number): Matrix {
  const pattern = gaussianMatrix(1, 32, 4).data
  return matrix(
    LAYOUT.rows,
    LAYOUT.cols,
    Float32Array.from({ length: LAYOUT.rows * LAYOUT.cols }, (_, i) => {
      const [row, column] = [Math.floor(i / LAYOUT.cols), i % LAYOUT.cols]
      return pattern[column % 32] * sizeOf(row, Math.floor(column / 32))
    }),
  )
}

const codesOf = ({ layer }: ColumnWalk) => [...(layer.blockScales?.codes ?? [])]

describe('scaleRatio', () => {
  it('reaches from the largest block of each group to the smallest, but for one in a hundred', () => {
    // each group has a size of its own, which its codebook takes up
    const size = (row: number, block: number) => 100 ** Math.floor(row / 4) * 0.1 ** ((row + block) % 3)
    expect(Number(scaleRatio(LAYOUT, blocksOfSize(size))) ** 15).toBeCloseTo(0.01, 5)
    const layout = { ...LAYOUT, rows: 100, rowsPerGroup: 100, columnsPerGroup: 160 }
    const row = gaussianMatrix(1, 160, 5).data
    const work = matrix(100, 160)
    for (let r = 0; r < 100; r++) work.data.set(r === 50 ? row.map((w) => w / 1e6) : row, r * 160)
    expect(scaleRatio(layout, work)).toBeGreaterThan(0.9)
  })

  it('is nothing for a layout without scales', () => {
    expect(scaleRatio({ ...LAYOUT, scaleBlockSize: undefined }, matrix(10, 160))).toBeUndefined()
  })

  it('stays between 0.25 and 0.97, also for zeros and for blocks of the same size', () => {
    expect(scaleRatio(LAYOUT, matrix(10, 160))).toBe(Math.fround(0.97))
    expect(
      scaleRatio(
        LAYOUT,
        blocksOfSize(() => 3),
      ),
    ).toBe(Math.fround(0.97))
    expect(
      scaleRatio(
        LAYOUT,
        blocksOfSize((_, block) => (block % 3 === 0 ? 1e20 : 1e-15)),
      ),
    ).toBe(0.25)
  })
})

describe('chooseScales', () => {
  it('gives blocks that differ by a factor alone scales that differ by that factor', () => {
    const levels = scaleLevels(Math.fround(0.8))
    const wanted = Array.from({ length: LAYOUT.rows * BLOCKS }, (_, i) =>
      i % BLOCKS === 1 ? 0 : (7 * i) % 16,
    )
    const work = blocksOfSize((row, block) => 5 * levels[wanted[row * BLOCKS + block]])
    const walk = walkOf(LAYOUT, work, 0.8)
    for (const rowGroups of [[0, 1], [2]]) chooseScales(walk, { rowGroups, start: 0, end: 96 })
    const chosen = codesOf(walk)
    for (const [i, code] of wanted.entries()) expect(chosen[i]).toBe(i % BLOCKS < 3 ? code : 0)
    expect(walk.scales).toEqual(decodeBlockScales(walk.layer))
  })

  it('takes the smallest scale for zeros, and beyond what scales there are the nearest', () => {
    const work = blocksOfSize((_, block) => [1, 0, 1e-9, 1, 0.5][block])
    const walk = walkOf(LAYOUT, work, 0.9)
    chooseScales(walk, { rowGroups: [0, 1, 2], start: 0, end: 96 })
    expect(codesOf(walk).slice(0, 3)).toEqual([0, 15, 15])
  })
})

describe('rechooseScales', () => {
  it('takes of the present scale and its neighbours the one that brings the weights nearest', () => {
    const work = gaussianMatrix(LAYOUT.rows, LAYOUT.cols, 6)
    const walk = walkOf(LAYOUT, work, 0.85)
    const random = randomGenerator(7)
    const codes = walk.layer.blockScales?.codes ?? new Uint8Array(0)
    for (let i = 0; i < codes.length; i++) codes[i] = Math.floor(16 * random())
    walk.scales?.set(decodeBlockScales(walk.layer) ?? [])
    const before = codes.slice()
    const codebooks = [0, 1].map((seed) => gaussianMatrix(16, 2, seed).data.map((c) => 2 * c))
    rechooseScales(walk, { rowGroups: [1, 2], start: 96, end: 160 }, codebooks)
    let moved = 0
    for (const [i, code] of codes.entries()) {
      const [row, block] = [Math.floor(i / BLOCKS), i % BLOCKS]
      if (row < 4 || block < 3) {
        expect(code).toBe(before[i])
        continue
      }
      const codebook = codebooks[Math.floor(row / 4) - 1]
      const losses = [-1, 0, 1].map((shift) => blockLoss(walk, row, block, before[i] + shift, codebook))
      const best = Math.min(...losses)
      expect(blockLoss(walk, row, block, code, codebook)).toBeLessThanOrEqual(best * (1 + 1e-5))
      if (code !== before[i]) moved++
    }
    expect(moved).toBeGreaterThan(3)
    expect(walk.scales).toEqual(decodeBlockScales(walk.layer))
  })
})

/** What a block of 32 weights loses with the scale of `code`, each vector with the best centroid of 16, in float64. */
function blockLoss(
  walk: ColumnWalk,
  row: number,
  block: number,
  code: number,
  codebook: Float32Array,
): number {
  if (code < 0 || code > 15) return Number.POSITIVE_INFINITY
  const scale = scaleLevels(walk.layer.blockScales?.ratio ?? 0)[code]
  let loss = 0
  for (let column = 32 * block; column < 32 * block + 32; column += 2) {
    const [x, y] = walk.work.data.subarray(row * 160 + column, row * 160 + column + 2)
    const [a, b, , c] = walk.metrics.subarray(2 * column, 2 * column + 4)
    let least = Number.POSITIVE_INFINITY
    for (let j = 0; j < 32; j += 2) {
      const [u, v] = [x - scale * codebook[j], y - scale * codebook[j + 1]]
      least = Math.min(least, a * u * u + 2 * b * u * v + c * v * v)
    }
    loss += least
  }
  return loss
}
