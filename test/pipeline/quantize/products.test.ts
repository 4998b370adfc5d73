import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { replacedProducts, setThreads, threadCount } from '../../../src/kernels/kernels.js'
import { startProducts } from '../../../src/kernels/native/start-products.js'
import { estimateModel, evaluateModel, type QuantizeModelOptions, quantizeModel } from '../../../src/model.js'
import { availableBlas } from '../../support/blas.js'
import { writeTinyModel } from '../../support/tiny-model.js'

const blas = await availableBlas()
const threads = threadCount()
const text = { text: 'the quick brown fox jumps over the lazy dog, and once more. '.repeat(20) }

let folder: string
let model: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-products-'))
  model = (await writeTinyModel(join(folder, 'model'))).folder
})
afterAll(async () => {
  setThreads(threads)
  await startProducts('wasm')
  await rm(folder, { recursive: true, force: true })
})

async function quantized(name: string, options: Partial<QuantizeModelOptions>) {
  const output = join(folder, name)
  const shared = {
    model,
    output,
    calibration: text,
    sequences: 4,
    sequenceLength: 32,
    engine: 'wasm',
  } as const
  await quantizeModel({ ...shared, ...options })
  const config = JSON.parse(await readFile(join(output, 'config.json'), 'utf8'))
  return {
    output,
    record: config.quantization_config.run as Record<string, unknown>,
    bytes: await readFile(join(output, 'model.safetensors')),
  }
}

describe('the option products', () => {
  it('is wasm unless something else is asked for, and recorded', async () => {
    const { record } = await quantized('wasm', {})
    expect(record.products).toBe('wasm')
    expect(record.options).not.toHaveProperty('products')
  })

  it.skipIf(!blas)(
    'gives the same bytes on any number of threads, and the record names the library',
    async () => {
      const one = await quantized('one', { products: 'blas', threads: 1 })
      const three = await quantized('three', { products: 'blas', threads: 3 })
      expect(one.record.products).toBe(`blas (${blas!.description})`)
      expect(one.bytes.equals(three.bytes)).toBe(true)
    },
  )

  it.skipIf(!blas)('changes scores by rounding only', async () => {
    const shared = { model, text, context: 32, engine: 'wasm' } as const
    const own = await evaluateModel(shared)
    const native = await evaluateModel({ ...shared, products: 'blas' })
    expect(Math.abs(native.perplexity / own.perplexity - 1)).toBeLessThan(1e-5)
  })

  it.skipIf(!blas)('is what an estimate is measured with too, and it says so', async () => {
    const shared = { model, calibration: text, sequences: 4, sequenceLength: 32, engine: 'wasm' } as const
    const native = await estimateModel({ ...shared, products: 'blas' })
    expect(replacedProducts()).toBeDefined()
    expect(native.machine.products).toBe(`blas (${blas!.description})`)
    const own = await estimateModel(shared)
    expect(replacedProducts()).toBeUndefined()
    expect(own.machine.products).toBe('wasm')
  })
})
