import { createHash } from 'node:crypto'
import { randomGenerator, randomNormal } from '../common/random.js'
import { bytesOf } from '../common/view-bytes.js'
import { wholeBlock } from '../kernels/contract.js'
import { kernels, useKernels } from '../kernels/kernels.js'
import { type ProductsName, startProducts } from '../kernels/native/start-products.js'
import { bestBuild, type KernelBuild } from '../kernels/wasm/runtime/runtime.js'
import { packageVersion } from '../pipeline/folders/package-version.js'

/** What a job's result depends on besides its input. */
export interface Arithmetic {
  readonly build: KernelBuild
  readonly products: 'wasm' | 'blas'
}

/** Of what goes between coordinator and workers; another number, other jobs. */
const PROTOCOL = 4

/** The builds that this engine runs. */
export function possibleBuilds(): readonly KernelBuild[] {
  return bestBuild() === 'relaxed' ? ['relaxed', 'baseline'] : ['baseline']
}

/** Has this process compute like that. @returns what multiplies, a library as it calls itself */
export async function useArithmetic({ build, products }: Arithmetic): Promise<string> {
  if (kernels().name !== build) useKernels(build)
  return startProducts(products satisfies ProductsName)
}

/**
 * A name for how this process computes: where it is the same, so are the bytes of layers. It is made of the versions of
 * this package and of Node, of what multiplies, and of the bits of products and functions, since fused multiply-adds and
 * libraries differ from processor to processor.
 */
export async function fingerprint(arithmetic: Arithmetic): Promise<string> {
  const multiplier = await useArithmetic(arithmetic)
  const major = process.versions.node.split('.')[0]
  const digest = createHash('sha256').update(`${PROTOCOL} ${await packageVersion()} ${major} ${multiplier}`)
  // libraries that cut long sums at other places agree on short ones
  for (const [m, n, k] of [
    [7, 33, 50],
    [70, 90, 300],
    [40, 70, 5000],
  ]) {
    digest.update(bytesOf(product(m, n, k)))
  }
  const { cos, exp, log, pow, sin, sqrt, tanh } = Math
  const x = normals(1000, 3)
  digest.update(
    bytesOf(Float64Array.from(x, (v) => exp(v) + log(v * v + 1) + pow(v * v, 0.3) + sqrt(v * v) + tanh(v))),
  )
  digest.update(bytesOf(Float64Array.from(x, (v) => cos(1000 * v) + sin(1000 * v))))
  return `${arithmetic.build}-${arithmetic.products}-node${major}-${digest.digest('hex').slice(0, 12)}`
}

function product(m: number, n: number, k: number): Float32Array {
  const [a, b] = [wholeBlock(normals(m * k, 1), k), wholeBlock(normals(k * n, 2), n)]
  const c = wholeBlock(new Float32Array(m * n), n)
  kernels().gemm('AB', m, n, k, 0.37, a, b, 0, c)
  return c.data
}

function normals(count: number, seed: number): Float32Array {
  const random = randomGenerator(seed)
  return Float32Array.from({ length: count }, () => randomNormal(random))
}
