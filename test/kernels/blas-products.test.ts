import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { OptionError, UnsupportedError } from '../../src/common/errors.js'
import { forwardKernels } from '../../src/kernels/forward-kernels.js'
import { kernels, setThreads, threadCount } from '../../src/kernels/kernels.js'
import { loadBlas } from '../../src/kernels/native/blas-library.js'
import { blasPool } from '../../src/kernels/native/blas-pool.js'
import { blasProducts } from '../../src/kernels/native/blas-products.js'
import { type ProductsName, startProducts } from '../../src/kernels/native/start-products.js'
import { availableBlas } from '../support/blas.js'
import {
  expectWithinBound,
  isSame,
  operands,
  type ProductCase,
  productCases,
  randomBlock,
  runProduct,
} from './product-cases.js'

const blas = await availableBlas()
const threads = threadCount()

afterEach(async () => {
  setThreads(threads)
  vi.unstubAllEnvs()
  await startProducts('wasm')
})

describe.skipIf(!blas)('products of the system', () => {
  let products: ReturnType<typeof blasProducts>
  beforeEach(() => {
    products = blasProducts(blasPool(blas!))
  })

  it('stay within the bound of the contract for any shape and form, and leave what surrounds C as it was', () => {
    fc.assert(
      fc.property(productCases(70), (size) => expectWithinBound(runProduct(products, size), size)),
      { numRuns: 150 },
    )
  })

  it('stay within the bound where C is cut into tiles', () => {
    for (const form of ['AB', 'ABt', 'AtB'] as const) {
      const size: ProductCase = { form, m: 300, n: 700, k: 33, alpha: -1, beta: 1, gap: 3, seed: 7 }
      expectWithinBound(runProduct(products, size), size)
    }
  })

  it('read nothing of C when beta is 0', () => {
    const { a, b, c } = operands({ form: 'AB', m: 9, n: 17, k: 5, alpha: 1, beta: 0, gap: 0, seed: 3 })
    c.data.fill(Number.NaN)
    products.gemm('AB', 9, 17, 5, 1, a, b, 0, c)
    expect(c.data.every(Number.isFinite)).toBe(true)
  })

  it('clear C when the inner dimension is empty and beta is 0, and do nothing without rows', () => {
    const c = randomBlock(3, 4, 0, 1)
    products.gemm('AB', 0, 4, 2, 1, randomBlock(1, 2, 0, 2), randomBlock(2, 4, 0, 3), 0, c)
    expect(c.data).toEqual(randomBlock(3, 4, 0, 1).data)
    products.gemm('AB', 3, 4, 0, 1, randomBlock(3, 1, 0, 2), randomBlock(1, 4, 0, 3), 0, c)
    expect([...c.data]).toEqual(Array(12).fill(0))
  })

  it('carry NaN and infinity through', () => {
    const c = randomBlock(1, 2, 0, 1)
    const a = { data: Float32Array.of(Number.POSITIVE_INFINITY, 1), offset: 0, stride: 2 }
    const b = { data: Float32Array.of(1, 2, Number.NaN, 3), offset: 0, stride: 2 }
    products.gemm('AB', 1, 2, 2, 1, a, b, 0, c)
    expect([...c.data]).toEqual([Number.NaN, Number.POSITIVE_INFINITY])
  })

  it('give the same bits on 1, 2 and 3 threads', () => {
    for (const form of ['AB', 'ABt', 'AtB'] as const) {
      const size: ProductCase = { form, m: 301, n: 530, k: 220, alpha: 1, beta: 1, gap: 2, seed: 11 }
      setThreads(1)
      const alone = runProduct(products, size)
      for (const count of [2, 3]) {
        setThreads(count)
        for (let round = 0; round < 2; round++) expect(isSame(runProduct(products, size), alone)).toBe(true)
      }
    }
  })

  it('gram is the upper triangle of the product with itself', () => {
    const [tokens, n] = [300, 591]
    const x = randomBlock(tokens, n, 2, 9)
    const whole = { data: new Float32Array(n * n), offset: 0, stride: n }
    products.gemm('AtB', n, n, tokens, 1, x, x, 0, whole)
    const half = { data: new Float32Array(n * n), offset: 0, stride: n }
    products.gram(tokens, n, x, half)
    for (let i = 0; i < n; i++) {
      const upper = [i * n + i, (i + 1) * n] as const
      expect(isSame(half.data.subarray(...upper), whole.data.subarray(...upper))).toBe(true)
    }
  })

  it('work on arrays in the memory of the kernels as on all others, without copies', () => {
    const { allocate, release } = forwardKernels()
    const size: ProductCase = { form: 'ABt', m: 65, n: 40, k: 31, alpha: 1, beta: 0, gap: 0, seed: 5 }
    const expected = runProduct(products, size)
    const { a, b, c } = operands(size)
    const inMemory = [a, b, c].map(({ data, offset, stride }) => {
      const own = allocate(data.length)
      own.set(data)
      return { data: own, offset, stride }
    })
    products.gemm('ABt', 65, 40, 31, 1, inMemory[0], inMemory[1], 0, inMemory[2])
    expect(isSame(inMemory[2].data, expected)).toBe(true)
    for (const { data } of inMemory) release(data)
  })

  it('are those of layers and forward pass once started, until others are', async () => {
    const own = [kernels().gemm, forwardKernels().gemm]
    expect(await startProducts('blas')).toBe(`blas (${blas!.description})`)
    expect(kernels().gemm).toBe(forwardKernels().gemm)
    expect(own).not.toContain(kernels().gemm)
    expect(kernels().name).toMatch(/relaxed|baseline/)
    expect(await startProducts('wasm')).toBe('wasm')
    expect([kernels().gemm, forwardKernels().gemm]).toEqual(own)
    expect(await startProducts('auto')).toBe(`blas (${blas!.description})`)
  })
})

describe('a BLAS that is not there', () => {
  it('is an error that says what to install, and how to name another', async () => {
    vi.stubEnv('GPTVQ_BLAS', '/nowhere/libblas.so')
    const refused = loadBlas()
    await expect(refused).rejects.toThrow(UnsupportedError)
    await expect(refused).rejects.toThrow(
      /\/nowhere\/libblas\.so.*(libopenblas0.*GPTVQ_BLAS|npm install koffi)/,
    )
    await expect(startProducts('blas')).rejects.toThrow(/products 'blas'/)
  })

  it('leaves auto with the kernels of this package', async () => {
    vi.stubEnv('GPTVQ_BLAS', '/nowhere/libblas.so')
    expect(await startProducts('auto')).toBe('wasm')
  })

  it('other names are refused', async () => {
    await expect(startProducts('mkl' as ProductsName)).rejects.toThrow(OptionError)
  })
})
