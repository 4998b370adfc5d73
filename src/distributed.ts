/**
 * Quantizing over many machines: a worker takes jobs of `quantizeModel({ redis })` from a queue.
 *
 * @module gptvq/distributed
 */

export type { WorkerEvent } from './distributed/work.js'
export { type RunningWorker, startWorker, type WorkerOptions } from './distributed/worker.js'
export { type ProductsName, startProducts } from './kernels/native/start-products.js'
