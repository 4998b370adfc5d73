import { describe, expect, it } from 'vitest'
import { constantCodebook, widthFactor } from '../../src/codebook/constant-codebook.js'
import { quantizeLayer } from '../../src/gptvq/quantize-layer.js'
import { refineOnce } from '../../src/gptvq/refine/refine-panel.js'
import { rowPanels, stateOf } from '../../src/gptvq/walk/row-panel.js'
import { bitsPerValue } from '../../src/packing/bits-per-value.js'
import { scaleLevels } from '../../src/packing/block-scales.js'
import { packLayer, unpackLayer } from '../../src/packing/pack-layer.js'
import { decodeCodebooks, dequantizeLayer } from '../../src/packing/vq-layer.js'
import { gaussianMatrix, randomHessian } from '../support/random-matrix.js'
import { lossOf } from './oracle.js'

const weight = gaussianMatrix(96, 131, 1)
const hessian = randomHessian(131, 400, 2)
const options = { trellisBits: 4, columnsPerGroup: 64, groupSize: 64 * 40 }

describe('a layer with a trellis', () => {
  it('has less error than plain codebooks at no more bits', async () => {
    const plain = await quantizeLayer(weight, hessian, { bits: 2, trellisBits: 0 })
    const { total } = bitsPerValue(packLayer(plain))
    const trellis = await quantizeLayer(weight, hessian, { bpv: total })
    expect(trellis.layout.trellis?.keyBits).toBe(12)
    expect(bitsPerValue(packLayer(trellis)).total).toBeLessThanOrEqual(bitsPerValue(packLayer(plain)).total)
    const [less, more] = [trellis, plain].map((layer) => lossOf(weight, dequantizeLayer(layer), hessian))
    expect(less).toBeLessThan(more)
  })

  it('falls with every bit of the rows above and of the index', async () => {
    const loss = async (bits: number, trellisBits: number) =>
      lossOf(weight, dequantizeLayer(await quantizeLayer(weight, hessian, { bits, trellisBits })), hessian)
    expect(await loss(2, 6)).toBeLessThan(await loss(2, 2))
    const byBits = [
      await loss(1, 4),
      await loss(1.5, 4),
      await loss(2, 4),
      await loss(2.5, 4),
      await loss(3, 4),
    ]
    for (let i = 1; i < byBits.length; i++) expect(byBits[i]).toBeLessThan(byBits[i - 1])
  })

  it('stands for the centroids that its keys name, times the scales of groups and blocks', async () => {
    const layer = await quantizeLayer(weight, hessian, options)
    const quantized = dequantizeLayer(layer)
    const elements = constantCodebook(2, 256)
    const { widths } = layer.layout.trellis!
    expect(new Set(widths).size).toBeGreaterThan(2)
    const levels = scaleLevels(layer.blockScales!.ratio)
    const perRow = 66
    for (let r = 0; r < 96; r++) {
      for (let j = 0; j < 131; j++) {
        const width = widths[j >> 1]
        let key = 0
        for (let above = r - (r % 40); above <= r; above++) {
          const own = layer.indices[above * perRow + (j >> 1)] % 2 ** width
          key = (key * 2 ** width + own) % 256
        }
        const element = elements[2 * key + (j & 1)] * widthFactor(2, width)
        const scale = layer.codebookScales[Math.floor(r / 40) * 3 + Math.floor(j / 64)]
        const level = levels[layer.blockScales!.codes[r * 3 + Math.floor(j / 64)]]
        expect(quantized.data[r * 131 + j]).toBe(Math.fround(Math.fround(element * scale) * level))
      }
    }
  })

  it('packs to what its bits per value say, and back', async () => {
    const layer = await quantizeLayer(weight, hessian, { ...options, columnOrder: 'activation' })
    const packed = packLayer(layer)
    expect(packed.codebooks).toHaveLength(0)
    expect(packed.indices).toHaveLength(96 * 33)
    expect(bitsPerValue(packed).codebook).toBe(0)
    const unpacked = unpackLayer(packed)
    expect(unpacked).toEqual(layer)
    expect(dequantizeLayer(unpacked)).toEqual(dequantizeLayer(layer))
  })

  it('refuses to pack keys that do not follow from each other', async () => {
    const layer = await quantizeLayer(weight, hessian, options)
    layer.indices[66] ^= 2 ** layer.layout.trellis!.widths[0]
    expect(() => packLayer(layer)).toThrow(/key \d+ of vector 0 in row 1 does not follow/)
  })

  it('does not depend on the row groups around', async () => {
    const own = { ...options, scaleBlockSize: 'none', indexWidths: 'same' } as const
    const whole = await quantizeLayer(weight, hessian, own)
    const rows = { rows: 40, cols: 131, data: weight.data.slice(40 * 131, 80 * 131) }
    const part = await quantizeLayer(rows, hessian, own)
    expect(part.indices).toEqual(whole.indices.slice(40 * 66, 80 * 66))
  })

  it('never rises in a round of refinement', async () => {
    const layer = await quantizeLayer(weight, hessian, { ...options, refinementRounds: 0 })
    const [panel] = rowPanels(weight, hessian, layer, decodeCodebooks(layer))
    const state = await stateOf(panel, async () => {})
    let before = state.losses.slice()
    const first = before.slice()
    for (let round = 0; round < 4; round++) {
      await refineOnce(panel, state, 0, async () => {})
      for (const [group, loss] of state.losses.entries()) expect(loss).toBeLessThanOrEqual(before[group])
      before = state.losses.slice()
    }
    for (const [group, loss] of before.entries()) expect(loss).toBeLessThan(first[group])
    const exact = (await stateOf(panel, async () => {})).losses
    for (const [group, loss] of before.entries()) expect(Math.abs(loss / exact[group] - 1)).toBeLessThan(1e-3)
  })

  it('of zeros stays zero', async () => {
    const zeros = { rows: 8, cols: 64, data: new Float32Array(8 * 64) }
    const layer = await quantizeLayer(zeros, randomHessian(64, 200, 3), { trellisBits: 3 })
    expect(dequantizeLayer(layer).data.every((value) => value === 0)).toBe(true)
  })
})
