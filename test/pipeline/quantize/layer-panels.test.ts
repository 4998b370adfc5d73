import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Matrix, matrix } from '../../../src/common/matrix.js'
import { frameOf, readyRows } from '../../../src/gptvq/layer-frame.js'
import { joinPanels } from '../../../src/gptvq/layer-panels.js'
import { resolveVqOptions, type VqOptions } from '../../../src/gptvq/options.js'
import { quantizePanel } from '../../../src/gptvq/quantize-layer.js'
import { ordinaryExponent } from '../../../src/hessian/unit-scale.js'
import { rowGroupsOf } from '../../../src/packing/vq-layer.js'
import {
  hasPanels,
  type PanelRunner,
  panelsHere,
  quantizeInPanels,
} from '../../../src/pipeline/quantize/layers/layer-panels.js'
import { type LayerWork, quantizeHere } from '../../../src/pipeline/quantize/layers/layer-work.js'
import { resolveMethod } from '../../../src/pipeline/quantize/quantize-options.js'
import { contentOf } from '../../support/layer-content.js'
import { gaussianMatrix, randomHessian } from '../../support/random-matrix.js'
import { rejectionOf } from '../../support/tolerance.js'

function rowsOf({ cols, data }: Matrix, from: number, to: number): Matrix {
  return matrix(to - from, cols, data.slice(from * cols, to * cols))
}

/** A layer of several panels that takes little time: it is high, its columns are few. */
function highLayer(options: VqOptions, drift?: 'input' | 'both', rows = 66_000): LayerWork {
  const cols = 48
  const half = (seed: number) => ({
    tokens: 100,
    input: gaussianMatrix(cols, cols, seed),
    ...(drift === 'both' && { residual: gaussianMatrix(rows, cols, seed + 10) }),
  })
  return {
    name: 'high',
    weight: gaussianMatrix(rows, cols, 1),
    inputs: {
      hessian: randomHessian(cols, 200, 2),
      tokens: 90,
      ...(drift && { drift: [half(3), half(4)] as const }),
    },
    settings: resolveMethod('gptvq', options),
    driftShare: 1,
  }
}

const plain: VqOptions = {
  trellisBits: 0,
  bits: 1,
  groupSize: 48 * 2000,
  scaleBlockSize: 'none',
  restarts: 1,
  kmeansIterations: 2,
  refinementRounds: 1,
}
const trellis: VqOptions = { vectorDim: 1, bits: 1, trellisBits: 2, refinementRounds: 1 }

describe('rows of a layer quantized apart', () => {
  const options: fc.Arbitrary<VqOptions> = fc.oneof(
    fc.record({
      trellisBits: fc.constant(0),
      bits: fc.constantFrom(1, 2),
      vectorDim: fc.constantFrom(1, 2),
      groupSize: fc.constantFrom(256, 640),
      columnsPerGroup: fc.constantFrom(16, 32),
      scaleBlockSize: fc.constantFrom(16 as const, 'none' as const),
      columnOrder: fc.constantFrom('natural' as const, 'activation' as const),
      refinementRounds: fc.constantFrom(0, 3),
      kmeansIterations: fc.constant(5),
    }),
    fc.record({
      trellisBits: fc.constantFrom(2, 3),
      vectorDim: fc.constantFrom(1, 2),
      groupSize: fc.constantFrom(256, 640),
      columnsPerGroup: fc.constantFrom(16, 32),
      scaleBlockSize: fc.constantFrom(16 as const, 'none' as const),
      columnOrder: fc.constantFrom('natural' as const, 'activation' as const),
      indexWidths: fc.constantFrom('fitted' as const, 'same' as const),
      refinementRounds: fc.constantFrom(0, 2),
    }),
  )

  it('are those of the whole layer, wherever it is cut between its panels', async () => {
    await fc.assert(
      fc.asyncProperty(
        options,
        fc.integer({ min: 5, max: 60 }),
        fc.integer({ min: 9, max: 70 }),
        fc.constantFrom(1, 2, 3),
        fc.constantFrom(2 ** -40, 1, 2 ** 35),
        fc.integer({ min: 1, max: 1000 }),
        async (options, rows, cols, panelGroups, size, seed) => {
          const weight = gaussianMatrix(rows, cols, seed)
          // every third row is small, and the last column sees nothing
          for (const [i, value] of weight.data.entries())
            weight.data[i] = value * size * (Math.floor(i / cols) % 3 === 0 ? 0.01 : 1)
          const hessian = randomHessian(cols, 2 * cols, seed)
          for (let i = 0; i < cols; i++) {
            hessian.data[i * cols + cols - 1] = 0
            hessian.data[(cols - 1) * cols + i] = 0
          }
          const settings = resolveVqOptions(options)
          const ready = readyRows(weight, hessian, ordinaryExponent(weight), settings, 'weight')
          const frame = { ...frameOf(weight, ready, settings), panelGroups }
          const { rowsPerGroup } = frame.layout
          const parts = []
          for (let group = 0; group < rowGroupsOf(frame.layout); group += panelGroups) {
            const [top, bottom] = [group, group + panelGroups].map((g) => Math.min(rows, g * rowsPerGroup))
            parts.push(await quantizePanel(rowsOf(weight, top, bottom), hessian, frame, group, options))
          }
          expect(joinPanels(parts, frame)).toEqual(await quantizePanel(weight, hessian, frame, 0, options))
        },
      ),
      { numRuns: 40 },
    )
  })

  it.each([
    ['plain codebooks with scales, and all drift', { ...plain, scaleBlockSize: 16 }, 'both'],
    ['a trellis, and the drift of inputs', trellis, 'input'],
  ] as const)('give the layer of one machine, its error and its drift: %s', async (_, options, drift) => {
    const work = highLayer(options, drift)
    expect(hasPanels(work)).toBe(true)
    let [pulls, panels] = [0, 0]
    const counting: PanelRunner = {
      pull(part, watch) {
        pulls++
        return panelsHere.pull(part, watch)
      },
      panel(part, watch) {
        panels++
        return panelsHere.panel(part, watch)
      },
    }
    const shown: number[] = []
    const onProgress = (done: number) => shown.push(done)
    const result = await quantizeInPanels(work, { onProgress }, counting)
    expect(contentOf(result)).toEqual(contentOf(await quantizeHere(work, {})))
    expect([pulls, panels]).toEqual([2, 2])
    expect(shown.at(-1)).toBeCloseTo(1, 10)
    expect(shown).toEqual([...shown].sort((a, b) => a - b))
  })

  it('end with the error of one machine, which counts the rows of the whole layer', async () => {
    const work = { ...highLayer(plain, 'input', 1), weight: matrix(66_000, 48) }
    work.weight.data[60_000 * 48 + 5] = Number.NaN
    const [away, here] = [
      (await rejectionOf(() => quantizeInPanels(work, {}, panelsHere))) as Error,
      (await rejectionOf(() => quantizeHere(work, {}))) as Error,
    ]
    expect(away.message).toContain('60000')
    expect([away.name, away.message]).toEqual([here.name, here.message])
  })

  it('are panels of large layers by GPTVQ only', () => {
    const { weight: _, ...others } = highLayer(plain, undefined, 1)
    const [weight, low] = [matrix(66_000, 48), { ...others, weight: matrix(40_000, 48) }]
    const gptq = { ...others, weight, settings: resolveMethod('gptq', {}) }
    expect([{ ...others, weight }, low, gptq].map(hasPanels)).toEqual([true, false, false])
  })
})
