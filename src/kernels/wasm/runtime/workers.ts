import { DONE, FAILED, REASON, REASON_BYTES } from './job.js'

/** What this file needs of Node's worker threads; named here because a browser has no types for them. */
interface WorkerThread {
  unref(): void
  on(event: 'exit' | 'error', listener: () => void): void
  terminate(): Promise<number>
}
interface WorkerThreadsModule {
  Worker: new (source: string, options: object) => WorkerThread
}

/**
 * A worker: its module runs on the shared memory until it is told to stop. Any other end is written to FAILED, and why.
 * One that cannot even begin has taken no part of any job: the others do without it.
 */
const source = `
const { memory, kernels, thread } = require('node:worker_threads').workerData
const { work } = new WebAssembly.Instance(kernels, { env: { memory } }).exports
// an engine may have missed that the memory grew while this thread began
memory.grow(0)
try {
  work(thread)
} catch (error) {
  const reason = new TextEncoder().encode(String(error)).subarray(0, ${REASON_BYTES})
  const board = new Int32Array(memory.buffer, 0, 512)
  new Uint8Array(memory.buffer, ${REASON + 4}, reason.length).set(reason)
  board[${REASON / 4}] = reason.length
  Atomics.store(board, ${FAILED / 4}, 1)
  Atomics.notify(board, ${DONE / 4})
}`

/** What a worker wrote before it died; empty when it could not. */
export function reasonOfDeath(memory: WebAssembly.Memory): string {
  const [length] = new Int32Array(memory.buffer, REASON, 1)
  // a copy: text decoders refuse shared memory
  return new TextDecoder().decode(new Uint8Array(memory.buffer, REASON + 4, length).slice())
}

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
    workerData: { kernels: module, memory, thread },
    resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 4 },
  })
  worker.on('error', () => {})
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
