/**
 * Quantizing over many machines: a worker takes jobs of `quantizeModel({ redis })` from a queue.
 *
 * @module gptvq/distributed
 */

export type { WorkerEvent } from './jobs.js'
export { type RunningWorker, startWorker, type WorkerOptions } from './worker.js'
