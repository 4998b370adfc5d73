import { builtin } from '../../builtin.js'
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

/** A worker of the web, as far as it is used here. */
interface WebWorker {
  postMessage(message: object): void
  terminate(): void
}
type WebWorkerClass = new (url: string) => WebWorker

/**
 * A worker: its module runs on the shared memory until it is told to stop. Any other end is written to FAILED, and why.
 * One that cannot even begin has taken no part of any job: the others do without it.
 */
const run = `
function run({ memory, kernels, thread }) {
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
  }
}`
const nodeSource = `${run}
run(require('node:worker_threads').workerData)`
const webSource = `${run}
onmessage = ({ data }) => {
  run(data)
  close()
}`

/** What a worker wrote before it died; empty when it could not. */
export function reasonOfDeath(memory: WebAssembly.Memory): string {
  const [length] = new Int32Array(memory.buffer, REASON, 1)
  // a copy: text decoders refuse shared memory
  return new TextDecoder().decode(new Uint8Array(memory.buffer, REASON + 4, length).slice())
}

/**
 * True where threads can be had: in Node, and in a browser where the page is cross-origin isolated, for elsewhere memory
 * cannot be shared. Otherwise one thread does all the work.
 */
export function hasWorkers(): boolean {
  return workerThreads() !== undefined || webWorkers() !== undefined
}

/** Starts a worker that takes part from its next look at the job board on. It never keeps the process alive. */
export function startWorker(
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
  thread: number,
): WorkerThread | WebWorker {
  const data = { kernels: module, memory, thread }
  const node = workerThreads()
  if (node !== undefined) return startNodeWorker(node, data)
  // the browser lets it begin when the thread that asked for it has its next turn
  const worker = new (webWorkers()!)(urlOfSource())
  worker.postMessage(data)
  return worker
}

function startNodeWorker({ Worker }: WorkerThreadsModule, workerData: object): WorkerThread {
  const worker = new Worker(nodeSource, {
    eval: true,
    // hooks that the process was started with (a TypeScript loader, say) are of no use here and slow
    execArgv: [],
    workerData,
    resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 4 },
  })
  worker.on('error', () => {})
  worker.unref()
  return worker
}

function workerThreads(): WorkerThreadsModule | undefined {
  return builtin('node:worker_threads') as WorkerThreadsModule | undefined
}

function webWorkers(): WebWorkerClass | undefined {
  const { crossOriginIsolated, Worker } = globalThis as {
    crossOriginIsolated?: boolean
    Worker?: WebWorkerClass
  }
  return crossOriginIsolated === true ? Worker : undefined
}

let url: string | undefined

function urlOfSource(): string {
  url ??= URL.createObjectURL(new Blob([webSource], { type: 'text/javascript' }))
  return url
}
