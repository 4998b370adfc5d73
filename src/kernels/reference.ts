/** The plain kernels: readable, exact in the order of their sums, and the oracle that faster ones are held to. */
export { assignNearest, centroidNorms, projectVectors } from './assign.js'
export { packedRowBytes, packIndices, unpackIndices } from './bits.js'
export { dot, multiplyAdd, multiplyTransposedAdd } from './product.js'
