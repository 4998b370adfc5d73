/**
 * Products by the system's BLAS against those of this package, in turns in one process: alone at the shapes of
 * Llama-2-7B's layers, in attention, and as parts of a whole layer. `npm run bench:native [-- --quick] [-- --layers]`, the
 * latter for layers alone; prints Markdown.
 */
import { quantizeLayer } from 'gptvq'
import { randomGenerator, randomNormal } from '../../src/common/random.js'
import { type ProductForm, type ProductKernels, wholeBlock } from '../../src/kernels/contract.js'
import { forwardKernels } from '../../src/kernels/forward-kernels.js'
import { kernels, setThreads, threadCount } from '../../src/kernels/kernels.js'
import { type ProductsName, startProducts } from '../../src/kernels/native/start-products.js'
import { hasty, medianOf, spreadOf, thorough, timeTogether } from '../common/harness.js'
import { correlatedHessian, heavyTailedWeight } from '../common/synthetic.js'

interface Shape {
  readonly what: string
  readonly form: ProductForm | 'gram'
  readonly m: number
  readonly n: number
  readonly k: number
}

const shapes: readonly Shape[] = [
  { what: 'forward pass, q_proj', form: 'ABt', m: 2048, n: 4096, k: 4096 },
  { what: 'forward pass, down_proj', form: 'ABt', m: 2048, n: 4096, k: 11008 },
  { what: 'Hessian of 4096 inputs', form: 'gram', m: 4096, n: 4096, k: 2048 },
  { what: 'propagation to 2048 columns', form: 'AB', m: 4096, n: 2048, k: 256 },
  { what: 'residual W H', form: 'AB', m: 2048, n: 2048, k: 2048 },
  { what: 'refinement of 256 columns', form: 'AB', m: 4096, n: 256, k: 32 },
]

/** Causal attention of one sequence. */
const attention = [
  { what: 'SmolLM2-135M', length: 2048, heads: 9, kvHeads: 3, headDim: 64 },
  { what: 'SmolLM2-135M', length: 512, heads: 9, kvHeads: 3, headDim: 64 },
  { what: 'Llama-2-7B', length: 2048, heads: 32, kvHeads: 32, headDim: 128 },
]

const names: readonly ProductsName[] = ['wasm', 'blas']
const allThreads = [...new Set([1, threadCount()])]
const quick = process.argv.includes('--quick')

console.log(`\n${await startProducts('blas')}, kernels ${kernels().name}, Node ${process.versions.node}\n`)
if (!process.argv.includes('--layers')) {
  await compareProducts()
  await compareAttention()
}
await compareLayers()

async function compareProducts(): Promise<void> {
  console.log('| product | m x n x k | threads | wasm GFLOP/s | blas GFLOP/s | ratio | spread % |')
  console.log('| ------- | --------- | ------- | ------------ | ------------ | ----- | -------- |')
  for (const shape of shapes) {
    for (const threads of allThreads) {
      setThreads(threads)
      await compareProduct(quick ? shrunk(shape) : shape, threads)
    }
  }
}

function shrunk(shape: Shape): Shape {
  return { ...shape, m: shape.m / 16, n: shape.n / 16, k: shape.k / 16 }
}

async function compareProduct({ what, form, m, n, k }: Shape, threads: number): Promise<void> {
  const [rowsOfA, colsOfA] = form === 'gram' ? [k, m] : [m, k]
  const a = wholeBlock(normals(rowsOfA * colsOfA, 1), colsOfA)
  const b = form === 'ABt' ? wholeBlock(normals(n * k, 2), k) : wholeBlock(normals(k * n, 2), n)
  const c = wholeBlock(new Float32Array(m * n), n)
  const contenders = names.map((name) => ({
    name,
    async run() {
      await startProducts(name)
      if (form === 'gram') kernels().gram(k, m, a, c)
      else kernels().gemm(form, m, n, k, 1, a, b, 0, c)
    },
  }))
  const timings = await timeTogether(contenders, quick ? hasty : { ...thorough, rounds: 5 })
  const [wasm, blas] = names.map((name) => timings.get(name)!)
  const operations = form === 'gram' ? m * (m + 1) * k : 2 * m * n * k
  const speed = (seconds: number) => ((1e-9 * operations) / seconds).toFixed(1)
  const spread = Math.max(spreadOf(wasm), spreadOf(blas)).toFixed(0)
  console.log(
    `| ${what} | ${m} x ${n} x ${k} | ${threads} | ${speed(wasm.seconds)} | ${speed(blas.seconds)} | ` +
      `${(wasm.seconds / blas.seconds).toFixed(2)} | ${spread} |`,
  )
}

async function compareAttention(): Promise<void> {
  console.log('\n| attention | tokens | heads | threads | wasm ms | blas ms | ratio | spread % |')
  console.log('| --------- | ------ | ----- | ------- | ------- | ------- | ----- | -------- |')
  for (const { what, length: whole, heads, kvHeads, headDim } of attention) {
    const length = quick ? whole / 8 : whole
    const rows = (count: number, seed: number) => {
      const held = forwardKernels().allocate(length * count * headDim)
      held.set(normals(held.length, seed))
      return held
    }
    const [queries, keys, values, output] = [heads, kvHeads, kvHeads, heads].map(rows)
    const shape = { heads, kvHeads, headDim, scale: headDim ** -0.5, softCap: undefined, window: undefined }
    const task = { ...shape, sequences: 1, length, position: 0, capacity: length }
    for (const threads of allThreads) {
      setThreads(threads)
      const contenders = names.map((name) => ({
        name,
        async run() {
          await startProducts(name)
          forwardKernels().attend({ ...task, queries, keys, values, output })
        },
      }))
      const timings = await timeTogether(contenders, quick ? hasty : { ...thorough, rounds: 5 })
      const [wasm, blas] = names.map((name) => timings.get(name)!)
      const milliseconds = [wasm, blas].map(({ seconds }) => (1000 * seconds).toFixed(1))
      const spread = Math.max(spreadOf(wasm), spreadOf(blas)).toFixed(0)
      const ratio = (wasm.seconds / blas.seconds).toFixed(2)
      const cells = [
        what,
        length,
        `${heads} (${kvHeads}) x ${headDim}`,
        threads,
        ...milliseconds,
        ratio,
        spread,
      ]
      console.log(`| ${cells.join(' | ')} |`)
    }
    for (const array of [queries, keys, values, output]) forwardKernels().release(array)
  }
}

function normals(count: number, seed: number): Float32Array {
  const random = randomGenerator(seed)
  const some = Float32Array.from({ length: Math.min(count, 65521) }, () => randomNormal(random))
  return Float32Array.from({ length: count }, (_, i) => some[i % some.length])
}

async function compareLayers(): Promise<void> {
  const size = quick ? 128 : 2048
  const rounds = quick ? 1 : 3
  const [weight, hessian] = [heavyTailedWeight(size, size, 1), correlatedHessian(size, 1)]
  await quantizeLayer(heavyTailedWeight(256, 256, 1), correlatedHessian(256, 1))
  console.log('\n| layer | products | threads | CPU s, median | in products | by phase, s |')
  console.log('| ----- | -------- | ------- | ------------- | ----------- | ----------- |')
  for (const threads of allThreads) {
    setThreads(threads)
    const seconds = new Map<ProductsName, number[]>(names.map((name) => [name, []]))
    const shares = new Map<ProductsName, number[]>(names.map((name) => [name, []]))
    const phases = new Map<ProductsName, Map<string, number>>(names.map((name) => [name, new Map()]))
    for (let round = 0; round < rounds; round++) {
      for (const name of names) {
        await startProducts(name)
        const own = phases.get(name)!
        const onPhase = (phase: string, spent: number) =>
          own.set(phase, (own.get(phase) ?? 0) + spent / rounds)
        const { all, inProducts } = await cpuOf(() => quantizeLayer(weight, hessian, { onPhase }))
        seconds.get(name)!.push(all)
        shares.get(name)!.push(inProducts / all)
      }
    }
    for (const name of names) {
      const parts = [...phases.get(name)!].map(([phase, spent]) => `${phase} ${spent.toFixed(2)}`).join(', ')
      const median = medianOf(seconds.get(name)!).toFixed(2)
      const share = `${(100 * medianOf(shares.get(name)!)).toFixed(0)} %`
      console.log(`| ${size} x ${size}, default | ${name} | ${threads} | ${median} | ${share} | ${parts} |`)
    }
  }
}

/** Processor seconds of all threads, and those that go by while the main one is in a product. */
async function cpuOf(work: () => Promise<unknown>): Promise<{ all: number; inProducts: number }> {
  const clock = () => {
    const { user, system } = process.cpuUsage()
    return 1e-6 * (user + system)
  }
  const own: { -readonly [Name in 'gemm' | 'gram']: ProductKernels[Name] } = kernels()
  const { gemm, gram } = own
  let inProducts = 0
  const timed =
    <Args extends unknown[]>(product: (...args: Args) => void) =>
    (...args: Args) => {
      const start = clock()
      product(...args)
      inProducts += clock() - start
    }
  Object.assign(own, { gemm: timed(gemm), gram: timed(gram) })
  const start = clock()
  try {
    await work()
    return { all: clock() - start, inProducts }
  } finally {
    Object.assign(own, { gemm, gram })
  }
}
