import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { decodeFloats } from '../../src/checkpoint/dtype.js'
import { openSafetensors } from '../../src/checkpoint/sources/open-safetensors.js'
import {
  bitsPerValue,
  dequantizeLayer,
  dequantizeScalar,
  type Matrix,
  matrix,
  packLayer,
  quantizeGptq,
  quantizeLayer,
  quantizeRtn,
  reconstructionError,
} from '../../src/index.js'

/** Figures and layers of the published reference code; too large for this repository, beside it where it is developed. */
const folder = process.env.GPTVQ_REFERENCE ?? join(import.meta.dirname, '../../../shared/reference')

interface Figures {
  name: string
  layers: Record<string, { error: number; heldout: number }>
}

async function readLayer(name: string): Promise<Record<'weight' | 'hessian' | 'hessian_heldout', Matrix>> {
  const file = await openSafetensors(join(folder, 'layers', `${name}.safetensors`))
  const read = async (tensor: string) => {
    const { shape } = file.tensors.get(tensor)!
    return matrix(shape[0], shape[1], decodeFloats('F32', await file.read(tensor)))
  }
  const [weight, hessian, heldOut] = [
    await read('weight'),
    await read('hessian'),
    await read('hessian_heldout'),
  ]
  await file.close()
  return { weight, hessian, hessian_heldout: heldOut }
}

describe.runIf(existsSync(folder))('beside the published reference code', () => {
  const rows: Figures[] = existsSync(folder)
    ? JSON.parse(readFileSync(join(folder, 'tiny-llama.json'), 'utf8')).rows
    : []
  const figuresOf = (name: string) => Object.entries(rows.find((row) => row.name === name)!.layers)

  it.each([2, 3, 4])('RTN and GPTQ give its layer errors within 2 percent at %i bits', async (bits) => {
    for (const [name, { error }] of figuresOf(`rtn ${bits}`)) {
      const { weight, hessian } = await readLayer(name)
      const ours = reconstructionError(
        weight,
        dequantizeScalar(quantizeRtn(weight, { bits })),
        hessian,
      ).relative
      expect(Math.abs(ours / error - 1)).toBeLessThan(0.02)
    }
    for (const [name, { error }] of figuresOf(`gptq ${bits}`)) {
      const { weight, hessian } = await readLayer(name)
      const layer = await quantizeGptq(weight, hessian, { bits })
      const ours = reconstructionError(weight, dequantizeScalar(layer), hessian).relative
      expect(Math.abs(ours / error - 1)).toBeLessThan(0.02)
    }
  })

  it('GPTVQ 2-D at 2.125 bits, all bytes counted, errs less on every layer, held-out activations too', async () => {
    for (const [name, figures] of figuresOf('gptvq 2d 2.125')) {
      const { weight, hessian, hessian_heldout: heldOut } = await readLayer(name)
      const layer = await quantizeLayer(weight, hessian, { vectorDim: 2, bits: 2, bpv: 2.125 })
      const values = dequantizeLayer(layer)
      expect(bitsPerValue(packLayer(layer)).total).toBeLessThanOrEqual(2.125)
      expect(reconstructionError(weight, values, hessian).relative).toBeLessThan(figures.error)
      expect(reconstructionError(weight, values, heldOut).relative).toBeLessThan(figures.heldout)
    }
  })
})
