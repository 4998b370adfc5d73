import { DONE, FAILED } from './job.js'

/** What this file needs of Node's worker threads; named here because a browser has no types for them. */
interface WorkerThread {
  unref(): void
  on(event: 'exit' | 'error', listener: () => void): void
  terminate(): Promise<number>
}
interface WorkerThreadsModule {
  Worker: new (source: string, options: object) => WorkerThread
}

/** A worker: its module runs on the shared memory until it is told to stop. Any other end is written to FAILED. */
const source = `
const { workerData: { module, memory, thread } } = require('node:worker_threads')
const board = new Int32Array(memory.buffer, 0, 128)
try {
  new WebAssembly.Instance(module, { env: { memory } }).exports.work(thread)
} catch (error) {
  Atomics.store(board, ${FAILED / 4}, 1)
  Atomics.notify(board, ${DONE / 4})
  throw error
}`

/** True where threads can be had: in Node. Elsewhere one thread does all the work. */
export function hasWorkers(): boolean {
  return workerThreads() !== undefined
}

/** Starts a worker that takes part from its next look at the job board on. It never keeps the process alive. */
export function startWorker(
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
  thread: number,
): WorkerThread {
  const { Worker } = workerThreads()!
  const worker = new Worker(source, {
    eval: true,
    // hooks that the process was started with (a TypeScript loader, say) are of no use here and slow
    execArgv: [],
    workerData: { module, memory, thread },
    resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 4 },
  })
  const board = new Int32Array(memory.buffer, 0, 128)
  worker.on('error', () => Atomics.store(board, FAILED / 4, 1))
  worker.unref()
  return worker
}

/** Without an import, so that a bundle for browsers needs no stand-in. */
function workerThreads(): WorkerThreadsModule | undefined {
  return builtin('node:worker_threads') as WorkerThreadsModule | undefined
}

/** A module of Node, undefined elsewhere. */
export function builtin(name: string): unknown {
  const { process } = globalThis as { process?: { getBuiltinModule?: (name: string) => unknown } }
  return process?.getBuiltinModule?.(name)
}
