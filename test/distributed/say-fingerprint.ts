/** Says by what library this process multiplies and how it computes, for tests of processes that differ in that. */
import { fingerprint } from '../../src/distributed/fingerprint.js'
import { startProducts } from '../../src/kernels/native/start-products.js'
import { bestBuild } from '../../src/kernels/wasm/runtime/runtime.js'

const name = await fingerprint({ build: bestBuild(), products: 'blas' })
console.log(JSON.stringify({ name, library: await startProducts('blas') }))
