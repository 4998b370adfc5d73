import '@tensorflow/tfjs-backend-wasm'
import * as tf from '@tensorflow/tfjs-core'
import { Matrix as MlMatrix } from 'ml-matrix'
import { randomGenerator, randomNormal } from '../../src/common/random.js'
import { type Block, type Kernels, type ProductForm, wholeBlock } from '../../src/kernels/contract.js'
import { setThreads, threadCount, useKernels } from '../../src/kernels/kernels.js'
import { referenceKernels } from '../../src/kernels/reference/kernels.js'
import { bestBuild } from '../../src/kernels/wasm/runtime/runtime.js'
import { type Contender, hasty, spreadOf, thorough, timeTogether } from '../common/harness.js'
import type { Row, Table } from '../common/report.js'
import type { SuiteOptions } from '../common/suites.js'

const TFJS = 'tfjs-backend-wasm'
const ML_MATRIX = 'ml-matrix'

interface ProductContender extends Contender {
  readonly implementation: string
  readonly threads: number
}

/** Square products over a ladder of sizes, and the other forms at one size. */
export async function productTables({ quick }: SuiteOptions): Promise<Table[]> {
  await tf.setBackend('wasm')
  const sizes = quick ? [64, 128] : [128, 256, 512, 1024, 2048]
  const ladder = await squareProducts(sizes, quick)
  const forms = await productForms(quick ? 96 : 1024, quick)
  return [ladder, forms]
}

/** One thread, and as many as are used by default. */
function threadCounts(): number[] {
  return threadCount() > 1 ? [1, threadCount()] : [1]
}

async function squareProducts(sizes: readonly number[], quick: boolean): Promise<Table> {
  const best = bestBuild()
  const fast = useKernels(best)
  const counts = threadCounts()
  const all: Row[] = []
  for (const n of sizes) {
    all.push(...(await timeSquare(n, [...ownProducts(fast, counts, n), ...otherProducts(n)], quick)))
  }
  if (best === 'relaxed') {
    const baseline = useKernels('baseline')
    for (const n of sizes) all.push(...(await timeSquare(n, ownProducts(baseline, counts, n), quick)))
  }
  useKernels(best)
  setThreads(Math.max(...counts))
  const rows = sizes.flatMap((n) => {
    const ofSize = all.filter((row) => row.n === n)
    const tfjs = ofSize.find(({ implementation }) => implementation === TFJS)!.gflops as number
    return ofSize.map((row) => ({ ...row, toTfjs: (row.gflops as number) / tfjs }))
  })
  return {
    id: 'products',
    title: 'Products of n x n matrices',
    note:
      `C = A B in float32. ${TFJS}: \`tf.matMul\` of tensors that lie in its memory already; ${ML_MATRIX}: \`mmul\`, ` +
      'in float64. Rows named after a build are this package, operands copied to its memory and back in each run; ' +
      '`reference` is the plain TypeScript that they are tested against.',
    columns: [
      { key: 'n', label: 'n', decimals: 0 },
      { key: 'implementation', label: 'implementation' },
      { key: 'threads', label: 'threads', decimals: 0 },
      { key: 'milliseconds', label: 'ms', digits: 3 },
      { key: 'spread', label: 'spread %', decimals: 0 },
      { key: 'gflops', label: 'GFLOP/s', digits: 3 },
      { key: 'toTfjs', label: `times ${TFJS}`, digits: 3 },
    ],
    rows,
    keys: ['n', 'implementation', 'threads'],
    compared: 'gflops',
  }
}

async function timeSquare(
  n: number,
  contenders: readonly ProductContender[],
  quick: boolean,
): Promise<Row[]> {
  const patience = quick ? hasty : n > 1024 ? { ...thorough, rounds: 5 } : thorough
  const timings = await timeTogether(contenders, patience)
  return contenders.map(({ name, implementation, threads }) => {
    const timing = timings.get(name)!
    return {
      n,
      implementation,
      threads,
      milliseconds: 1e3 * timing.seconds,
      fastest: timing.fastest,
      slowest: timing.slowest,
      runs: timing.runs,
      spread: spreadOf(timing),
      gflops: (2e-9 * n ** 3) / timing.seconds,
    }
  })
}

function ownProducts(kernel: Kernels, counts: readonly number[], n: number): ProductContender[] {
  const [a, b, c] = [randomBlock(n, n, 1), randomBlock(n, n, 2), wholeBlock(new Float32Array(n * n), n)]
  return counts.map((threads) => ({
    name: `${kernel.name} ${threads}`,
    implementation: kernel.name,
    threads,
    run() {
      setThreads(threads)
      kernel.gemm('AB', n, n, n, 1, a, b, 0, c)
    },
  }))
}

function otherProducts(n: number): ProductContender[] {
  const [a, b, c] = [randomBlock(n, n, 1), randomBlock(n, n, 2), wholeBlock(new Float32Array(n * n), n)]
  const [left, right] = [tf.tensor2d(a.data, [n, n]), tf.tensor2d(b.data, [n, n])]
  const contenders = [
    { name: TFJS, run: () => tf.matMul(left, right).dispose() },
    { name: 'reference', run: () => referenceKernels.gemm('AB', n, n, n, 1, a, b, 0, c) },
  ]
  // beyond this size arrays of arrays take minutes
  if (n <= 1024) {
    const [first, second] = [a, b].map(({ data }) => MlMatrix.from1DArray(n, n, data))
    contenders.push({ name: ML_MATRIX, run: () => void first.mmul(second) })
  }
  return contenders.map((contender) => ({ ...contender, implementation: contender.name, threads: 1 }))
}

interface Form {
  readonly form: string
  /** Floating-point operations that the result needs. */
  readonly operations: number
  readonly multiply: (kernel: Kernels) => void
}

/** All forms of the product on an n x n problem, this package only. */
async function productForms(n: number, quick: boolean): Promise<Table> {
  const fast = useKernels(bestBuild())
  const counts = threadCounts()
  const [a, b, c] = [randomBlock(n, n, 3), randomBlock(n, n, 4), wholeBlock(new Float32Array(n * n), n)]
  const gemm = (form: ProductForm, label: string): Form => ({
    form: label,
    operations: 2 * n ** 3,
    multiply: (kernel) => kernel.gemm(form, n, n, n, 1, a, b, 0, c),
  })
  const forms: Form[] = [
    gemm('AB', 'A B'),
    gemm('ABt', 'A B^T'),
    gemm('AtB', 'A^T B'),
    {
      form: 'A^T A, upper half',
      operations: n ** 2 * (n + 1),
      multiply: (kernel) => kernel.gram(n, n, a, c),
    },
  ]
  const rows: Row[] = []
  for (const { form, operations, multiply } of forms) {
    const contenders: ProductContender[] = counts.map((threads) => ({
      name: `${fast.name} ${threads}`,
      implementation: fast.name,
      threads,
      run() {
        setThreads(threads)
        multiply(fast)
      },
    }))
    const reference = 'reference'
    contenders.push({
      name: reference,
      implementation: reference,
      threads: 1,
      run: () => multiply(referenceKernels),
    })
    const timings = await timeTogether(contenders, quick ? hasty : { ...thorough, rounds: 5 })
    for (const { name, implementation, threads } of contenders) {
      const timing = timings.get(name)!
      rows.push({
        form,
        implementation,
        threads,
        milliseconds: 1e3 * timing.seconds,
        spread: spreadOf(timing),
        gflops: (1e-9 * operations) / timing.seconds,
        toReference: timings.get(reference)!.seconds / timing.seconds,
      })
    }
  }
  return {
    id: 'product-forms',
    title: `Forms of the product, n = ${n}`,
    note: 'Operations are those that the result needs: half as many for one triangle of the symmetric product.',
    columns: [
      { key: 'form', label: 'form' },
      { key: 'implementation', label: 'implementation' },
      { key: 'threads', label: 'threads', decimals: 0 },
      { key: 'milliseconds', label: 'ms', digits: 3 },
      { key: 'spread', label: 'spread %', decimals: 0 },
      { key: 'gflops', label: 'GFLOP/s', digits: 3 },
      { key: 'toReference', label: 'times reference', digits: 3 },
    ],
    rows,
    keys: ['form', 'implementation', 'threads'],
    compared: 'gflops',
  }
}

function randomBlock(rows: number, cols: number, seed: number): Block {
  const random = randomGenerator(seed)
  return wholeBlock(
    Float32Array.from({ length: rows * cols }, () => randomNormal(random)),
    cols,
  )
}
