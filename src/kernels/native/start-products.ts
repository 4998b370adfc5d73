import { requireOneOf } from '../../common/check-option.js'
import { useProducts } from '../kernels.js'
import { type BlasLibrary, loadBlas } from './blas-library.js'
import { blasPool } from './blas-pool.js'
import { blasProducts } from './blas-products.js'

/** What multiplies matrices: see {@link startProducts}. */
export type ProductsName = 'auto' | 'wasm' | 'blas'

/** The names that {@link startProducts} takes. */
export const productsNames: readonly ProductsName[] = ['auto', 'wasm', 'blas']

let library: { readonly asked: string | undefined; readonly loading: Promise<BlasLibrary> } | undefined

/**
 * Has the matrix products of the whole process done by one implementation from now on: those of the forward pass on the
 * engine `wasm`, attention of many queries among them, Hessians, factors, propagation and residuals. All else stays with
 * the kernels of this package.
 *
 * - `'wasm'`: the kernels of this package, the same bytes wherever their build is the same
 * - `'blas'`: `cblas_sgemm` of the system's library (OpenBLAS, on macOS Accelerate) through the package `koffi`, both of
 *   which the user installs. Faster; results differ from those of `'wasm'` in their last bits, and may from one library
 *   or processor to another. They do not depend on the number of threads
 * - `'auto'`: `'blas'` where it loads, else `'wasm'`
 *
 * @returns what multiplies now: `'wasm'`, or `'blas'` with how the library calls itself
 * @throws UnsupportedError when `'blas'` does not load, saying what to install
 * @throws OptionError for another name
 */
export async function startProducts(name: ProductsName = 'wasm'): Promise<string> {
  requireOneOf('products', name, productsNames)
  if (name === 'wasm') return startWasm()
  try {
    const asked = process.env.GPTVQ_BLAS
    if (library === undefined || library.asked !== asked) library = { asked, loading: loadBlas() }
    const blas = await library.loading
    useProducts(productsOf(blas))
    return `blas (${blas.description})`
  } catch (error) {
    library = undefined
    if (name === 'blas') throw error
    return startWasm()
  }
}

function startWasm(): 'wasm' {
  useProducts(undefined)
  return 'wasm'
}

let started: { readonly of: BlasLibrary; readonly products: ReturnType<typeof blasProducts> } | undefined

function productsOf(blas: BlasLibrary): ReturnType<typeof blasProducts> {
  if (started?.of !== blas) started = { of: blas, products: blasProducts(blasPool(blas)) }
  return started.products
}
