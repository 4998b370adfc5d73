import { Matrix as Dense, inverse, pseudoInverse } from 'ml-matrix'
import { describe, expect, it } from 'vitest'
import type { Matrix } from '../../src/common/matrix.js'
import { resolveVqOptions } from '../../src/gptvq/options.js'
import { type ColumnStrip, closeStrip, openStrip, wholeStrip } from '../../src/gptvq/refine/column-strip.js'
import { refineIndices } from '../../src/gptvq/refine/refine-indices.js'
import { refineOnce, refinePanel } from '../../src/gptvq/refine/refine-panel.js'
import { refineScales } from '../../src/gptvq/refine/refine-scales.js'
import { updateCodebooks } from '../../src/gptvq/refine/update-codebooks.js'
import { type LayerPanel, type PanelState, rowPanels, stateOf } from '../../src/gptvq/walk/row-panel.js'
import { snapshot, storePanel } from '../../src/gptvq/walk/store-panel.js'
import { vectorMetrics } from '../../src/gptvq/walk/vector-metric.js'
import { inverseFactorInPlace } from '../../src/hessian/cholesky.js'
import {
  decodeCodebooks,
  dequantizeLayer,
  matrix,
  quantizeLayer,
  type ScaleBlockSize,
  type VqLayer,
} from '../../src/index.js'
import { wholeBlock } from '../../src/kernels/contract.js'
import { kernels } from '../../src/kernels/kernels.js'
import { layoutOf } from '../../src/packing/layout.js'
import {
  blocksPerRow,
  centroidsOf,
  columnGroupsOf,
  decodeBlockScales,
  emptyLayer,
  vectorsPerRow,
} from '../../src/packing/vq-layer.js'
import { gaussianMatrix, randomHessian } from '../support/random-matrix.js'
import { largestDifference } from '../support/tolerance.js'
import { dense, lossOf } from './oracle.js'

const noPause = async () => {}

const sum = (values: Float64Array) => values.reduce((a, b) => a + b, 0)

/** A layer after its columns alone; 16-bit codebooks, so that rounding does not blur the comparison with float64. */
async function walked(
  rows: number,
  cols: number,
  vectorDim: 1 | 2 | 4,
  seed: number,
  scaleBlockSize?: ScaleBlockSize,
) {
  const weight = gaussianMatrix(rows, cols, seed)
  const hessian = randomHessian(cols, 5 * cols, seed + 1)
  const layer = await quantizeLayer(weight, hessian, {
    vectorDim,
    bits: vectorDim === 4 ? 1 : 2,
    groupSize: scaleBlockSize ? 16 * 32 : 16 * 20,
    columnsPerGroup: scaleBlockSize ? 32 : 20,
    scaleBlockSize,
    codebookBits: 16,
    codebookUpdateSteps: 0,
    refinementRounds: 0,
  })
  return { weight, hessian, layer }
}

function onlyPanel(weight: Matrix, hessian: Matrix, layer: VqLayer): LayerPanel {
  const panels = rowPanels(weight, hessian, layer, decodeCodebooks(layer))
  expect(panels).toHaveLength(1)
  return panels[0]
}

/** Does something with each column group in turn. */
async function stripByStrip(
  panel: LayerPanel,
  state: PanelState,
  work: (strip: ColumnStrip) => Promise<number>,
): Promise<number> {
  let changed = 0
  for (let group = 0; group < columnGroupsOf(panel.layout); group++) {
    const strip = openStrip(panel, state, group)
    changed += await work(strip)
    closeStrip(strip, state)
  }
  return changed
}

const shapes = [
  [16, 40, 2, undefined],
  [21, 50, 2, undefined],
  [40, 37, 2, undefined],
  [33, 45, 1, undefined],
  [18, 43, 4, undefined],
] as const
const scaledShapes = [
  [21, 50, 2, 16],
  [40, 69, 2, 32],
  [33, 45, 1, 16],
  [18, 43, 4, 16],
] as const

describe('vectorMetrics', () => {
  it.each([1, 2, 4])(
    'are the inverse of the block of the inverse Hessian of all columns from P on, d = %i',
    async (d) => {
      const n = 12
      const hessian = randomHessian(n, 60, 3)
      const factor = matrix(n, n, hessian.data.slice())
      await inverseFactorInPlace(factor)
      const full = vectorMetrics(factor, d, 'full')
      const diagonal = vectorMetrics(factor, d, 'diagonal')
      for (let column = 0; column < n; column += d) {
        const rest = inverse(dense(hessian).subMatrix(column, n - 1, column, n - 1))
        const metric = inverse(rest.subMatrix(0, d - 1, 0, d - 1))
        for (let a = 0; a < d; a++) {
          for (let b = 0; b < d; b++) {
            const at = column * d + a * d + b
            expect(full[at]).toBeCloseTo(metric.get(a, b), 4)
            const u = factor.data[(column + a) * n + column + a]
            expect(diagonal[at]).toBeCloseTo(a === b ? 1 / u ** 2 : 0, 6)
          }
        }
      }
    },
  )
})

describe('stateOf', () => {
  it('multiplies wide panels in turns, to the bits of one product', async () => {
    const [rows, cols] = [130, 2900]
    const weight = gaussianMatrix(rows, cols, 1)
    const hessian = gaussianMatrix(cols, cols, 2)
    const layer = emptyLayer(layoutOf(rows, cols, resolveVqOptions({ bits: 2, trellisBits: 2 })), 8, 1.2)
    let turns = 0
    const [panel] = rowPanels(weight, hessian, layer, decodeCodebooks(layer))
    const { residual } = await stateOf(panel, async () => void turns++)
    expect(turns).toBe(2)
    const stored = dequantizeLayer(layer).data
    const difference = weight.data.map((value, i) => value - stored[i])
    const whole = new Float32Array(rows * cols)
    const block = (data: Float32Array) => wholeBlock(data, cols)
    kernels().gemm('AB', rows, cols, cols, 1, block(difference), block(hessian.data), 0, block(whole))
    expect(residual).toEqual(whole)
  })
})

describe('updateCodebooks', () => {
  it.each([...shapes, ...scaledShapes])(
    'reaches the optimum that a dense solver finds, %i x %i, d = %i, scales %s',
    async (rows, cols, d, size) => {
      const { weight, hessian, layer } = await walked(rows, cols, d, 10, size)
      const before = lossOf(weight, dequantizeLayer(layer), hessian)
      const panel = onlyPanel(weight, hessian, layer)
      const state = await stateOf(panel, noPause)
      expect(sum(state.losses) / before).toBeCloseTo(1, 4)
      const start = snapshot(panel, layer, state.losses)
      await updateCodebooks(wholeStrip(panel, state), 400, noPause)
      const end = await storePanel(panel, layer, start, state.residual, noPause)
      const after = lossOf(weight, dequantizeLayer(layer), hessian)
      expect(sum(end.losses) / after).toBeCloseTo(1, 4)
      expect(after).toBeLessThan(before)
      expect(after / optimalLoss(weight, hessian, layer)).toBeLessThan(1.005)
    },
  )

  it('never raises the loss of any row group, whatever the number of steps', async () => {
    for (const steps of [0, 1, 2, 5, 40]) {
      const { weight, hessian, layer } = await walked(40, 60, 2, 20 + steps, steps === 5 ? 16 : undefined)
      const panel = onlyPanel(weight, hessian, layer)
      const state = await stateOf(panel, noPause)
      const before = state.losses.slice()
      await updateCodebooks(wholeStrip(panel, state), steps, noPause)
      for (let g = 0; g < before.length; g++) expect(state.losses[g]).toBeLessThanOrEqual(before[g])
      expectSameState(state, await stateOf(panel, noPause))
    }
  })

  it('moves one column group and leaves the others alone', async () => {
    const { weight, hessian, layer } = await walked(40, 60, 2, 27)
    const panel = onlyPanel(weight, hessian, layer)
    const [state, codebooks] = [await stateOf(panel, noPause), panel.codebooks.slice()]
    const before = state.losses.slice()
    const strip = openStrip(panel, state, 1)
    await updateCodebooks(strip, 5, noPause)
    closeStrip(strip, state)
    expectSameState(state, await stateOf(panel, noPause))
    const size = centroidsOf(layer.layout) * layer.layout.vectorDim
    for (const [i, value] of panel.codebooks.entries()) {
      const columnGroup = Math.floor(i / size) % columnGroupsOf(layer.layout)
      if (columnGroup !== 1) expect(value).toBe(codebooks[i])
    }
    for (let g = 0; g < before.length; g++) expect(state.losses[g]).toBeLessThan(before[g])
  })
})

describe('storePanel', () => {
  it('takes a row group back to the snapshot where rounding leaves it worse, and only that', async () => {
    const { weight, hessian, layer } = await walked(40, 60, 2, 26)
    const panel = onlyPanel(weight, hessian, layer)
    const state = await stateOf(panel, noPause)
    const before = snapshot(panel, layer, state.losses)
    const stored = dequantizeLayer(layer).data.slice()
    await updateCodebooks(wholeStrip(panel, state), 40, noPause)
    const group = panel.codebooks.length / state.losses.length
    // the second row group gets codebooks that are of no use
    panel.codebooks.fill(7, group, 2 * group)
    const after = await storePanel(panel, layer, before, state.residual, noPause)
    const [from, to] = [layer.layout.rowsPerGroup * 60, 2 * layer.layout.rowsPerGroup * 60]
    const now = dequantizeLayer(layer).data
    expect(now.slice(from, to)).toEqual(stored.slice(from, to))
    expect(after.losses[0]).toBeLessThan(before.losses[0])
    expect(now.slice(0, from)).not.toEqual(stored.slice(0, from))
    expect(decodeCodebooks(layer)).toEqual(panel.codebooks)
    expectSameState(after, await stateOf(panel, noPause))
  })
})

describe('refinePanel', () => {
  it.each([...shapes, ...scaledShapes])(
    'lowers the loss of every row group round by round, %i x %i, d = %i, scales %s',
    async (rows, cols, d, size) => {
      const { weight, hessian, layer } = await walked(rows, cols, d, 50, size)
      const panel = onlyPanel(weight, hessian, layer)
      const state = await stateOf(panel, noPause)
      for (let round = 0; round < 4; round++) {
        const before = state.losses.slice()
        await refineOnce(panel, state, 2, noPause)
        for (let g = 0; g < before.length; g++) expect(state.losses[g]).toBeLessThanOrEqual(before[g])
        expectSameState(state, await stateOf(panel, noPause))
      }
    },
  )

  it.each([shapes[1], scaledShapes[1]])(
    'leaves a row group where its own rounds end, when others go on, %i x %i, d = %i, scales %s',
    async (rows, cols, d, size) => {
      const { weight, hessian, layer } = await walked(rows, cols, d, 60, size)
      const limits = { tolerance: 0.01, codebookSteps: 1 }
      const panel = onlyPanel(weight, hessian, layer)
      const expected = structuredClone(layer)
      const alone = onlyPanel(weight, hessian, expected)
      const state = await stateOf(alone, noPause)
      const going = state.losses.map(() => 1)
      const kept = { indices: alone.indices.slice(), codebooks: alone.codebooks.slice() }
      const rowGroups = state.losses.length
      const perGroup = alone.codebooks.length / rowGroups
      const indicesPerGroup = layer.layout.rowsPerGroup * vectorsPerRow(layer.layout)
      for (let round = 0; round < 20; round++) {
        const before = state.losses.slice()
        await refineOnce(alone, state, limits.codebookSteps, noPause)
        for (let g = 0; g < rowGroups; g++) {
          if (going[g] === 0) continue
          const [i, c] = [g * indicesPerGroup, g * perGroup]
          kept.indices.set(alone.indices.subarray(i, i + indicesPerGroup), i)
          kept.codebooks.set(alone.codebooks.subarray(c, c + perGroup), c)
          if (!(state.losses[g] < (1 - limits.tolerance) * before[g])) going[g] = 0
        }
      }
      expect(going).not.toContain(1)
      await refinePanel(panel, await stateOf(panel, noPause), { ...limits, rounds: 20 }, noPause)
      expect(panel.indices).toEqual(kept.indices)
      expect(panel.codebooks).toEqual(kept.codebooks)
    },
  )
})

describe('refineIndices', () => {
  it.each([...shapes, ...scaledShapes])(
    'ends where no single index can lower the loss, %i x %i, d = %i, scales %s',
    async (rows, cols, d, size) => {
      const { weight, hessian, layer } = await walked(rows, cols, d, 30, size)
      const panel = onlyPanel(weight, hessian, layer)
      const state = await stateOf(panel, noPause)
      let loss = lossOf(weight, dequantizeLayer(layer), hessian)
      let sweeps = 0
      while (
        (await stripByStrip(panel, state, (strip) => refineIndices(strip, noPause))) > 0 &&
        sweeps++ < 100
      ) {
        const next = lossOf(weight, dequantizeLayer(layer), hessian)
        expect(next).toBeLessThan(loss * (1 + 1e-6))
        loss = next
      }
      expect(sweeps).toBeLessThan(100)
      expectSameState(state, await stateOf(panel, noPause))
      for (let trial = 0; trial < 40; trial++) {
        const at = (trial * 7919) % (rows * vectorsPerRow(layer.layout))
        const kept = layer.indices[at]
        layer.indices[at] = (kept + 1 + (trial % (centroidsOf(layer.layout) - 1))) % centroidsOf(layer.layout)
        expect(lossOf(weight, dequantizeLayer(layer), hessian)).toBeGreaterThan(loss * (1 - 1e-5))
        layer.indices[at] = kept
      }
    },
  )
})

describe('refineScales', () => {
  it.each(scaledShapes)(
    'ends where no other scale of a block lowers the loss, %i x %i, d = %i, scales %i',
    async (rows, cols, d, size) => {
      const { weight, hessian, layer } = await walked(rows, cols, d, 40, size)
      const panel = onlyPanel(weight, hessian, layer)
      const state = await stateOf(panel, noPause)
      const before = lossOf(weight, dequantizeLayer(layer), hessian)
      let loss = before
      let sweeps = 0
      while (
        (await stripByStrip(panel, state, (strip) => refineScales(strip, noPause))) > 0 &&
        sweeps++ < 100
      ) {
        const next = lossOf(weight, dequantizeLayer(layer), hessian)
        expect(next).toBeLessThan(loss * (1 + 1e-6))
        loss = next
      }
      expect(sweeps).toBeLessThan(100)
      expect(loss).toBeLessThan(before)
      expectSameState(state, await stateOf(panel, noPause))
      expect(panel.scales?.values).toEqual(decodeBlockScales(layer))
      const codes = layer.blockScales?.codes ?? new Uint8Array(0)
      for (let trial = 0; trial < 40; trial++) {
        const at = (trial * 7919) % codes.length
        const kept = codes[at]
        codes[at] = (kept + 1 + (trial % 15)) % 16
        expect(lossOf(weight, dequantizeLayer(layer), hessian)).toBeGreaterThan(loss * (1 - 1e-5))
        codes[at] = kept
      }
    },
  )

  it('takes the best of 16 scales for a block of a diagonal Hessian at once', async () => {
    const { weight, layer } = await walked(12, 64, 2, 41, 32)
    const hessian = matrix(64, 64)
    for (let j = 0; j < 64; j++) hessian.data[65 * j] = 1 + (j % 5)
    const codes = layer.blockScales?.codes ?? new Uint8Array(0)
    codes.set(codes.map((_, i) => (5 * i) % 16))
    const panel = onlyPanel(weight, hessian, layer)
    await refineScales(wholeStrip(panel, await stateOf(panel, noPause)), noPause)
    for (const [at, chosen] of codes.entries()) {
      const losses = Array.from({ length: 16 }, (_, code) => {
        codes[at] = code
        return lossOf(weight, dequantizeLayer(layer), hessian)
      })
      codes[at] = chosen
      expect(losses[chosen]).toBeLessThanOrEqual(Math.min(...losses) * (1 + 1e-6))
    }
  })

  it('leaves a layer without scales alone', async () => {
    const { weight, hessian, layer } = await walked(16, 40, 2, 42)
    const panel = onlyPanel(weight, hessian, layer)
    const state = await stateOf(panel, noPause)
    const residual = state.residual.slice()
    expect(await refineScales(wholeStrip(panel, state), noPause)).toBe(0)
    expect(state.residual).toEqual(residual)
  })
})

/** The state that went from step to step against the one worked out anew. */
function expectSameState(carried: PanelState, anew: PanelState): void {
  const size = Math.max(...anew.residual.map(Math.abs))
  expect(largestDifference(carried.residual, anew.residual)).toBeLessThan(1e-4 * size)
  // a row group of few rows may have next to no loss, of which rounding is a larger share
  expect(largestDifference(carried.losses, anew.losses)).toBeLessThan(1e-4 * Math.max(...anew.losses))
}

/** The least loss that any codebooks reach with a layer's indices: row group by row group, by pseudoinverse. */
function optimalLoss(weight: Matrix, hessian: Matrix, layer: VqLayer): number {
  const { layout, indices } = layer
  const { rows, cols, vectorDim: d, rowsPerGroup, columnsPerGroup, scaleBlockSize = 1 } = layout
  const scales = decodeBlockScales(layer)
  const size = centroidsOf(layout) * d
  const unknowns = Math.ceil(cols / columnsPerGroup) * size
  const h = dense(hessian)
  let total = 0
  for (let top = 0; top < rows; top += rowsPerGroup) {
    const bottom = Math.min(top + rowsPerGroup, rows)
    let normal = Dense.zeros(unknowns, unknowns)
    let target = Dense.zeros(unknowns, 1)
    let energy = 0
    for (let r = top; r < bottom; r++) {
      const choice = Dense.zeros(cols, unknowns)
      for (let j = 0; j < cols; j++) {
        const index = indices[r * vectorsPerRow(layout) + Math.floor(j / d)]
        const scale = scales ? scales[r * blocksPerRow(layout) + Math.floor(j / scaleBlockSize)] : 1
        choice.set(j, Math.floor(j / columnsPerGroup) * size + index * d + (j % d), scale)
      }
      const w = Dense.columnVector(Array.from(weight.data.subarray(r * cols, (r + 1) * cols)))
      const weighted = choice.transpose().mmul(h)
      normal = normal.add(weighted.mmul(choice))
      target = target.add(weighted.mmul(w))
      energy += w.transpose().mmul(h).mmul(w).get(0, 0)
    }
    total += energy - target.transpose().mmul(pseudoInverse(normal)).mmul(target).get(0, 0)
  }
  return total
}
