import util from 'node:util'
import * as tf from '@tensorflow/tfjs-core'
import { OptionError, UnsupportedError } from '../../common/errors.js'
import { useOwnProducts } from './tensors/products.js'

/** Where the forward pass runs: see {@link startEngine}. */
export type EngineName = 'auto' | 'wasm' | 'cpu' | 'tensorflow'

/** An engine that can be running. */
export type StartedEngine = Exclude<EngineName, 'auto'>

/** The names that {@link startEngine} takes. */
export const engineNames: readonly EngineName[] = ['auto', 'wasm', 'cpu', 'tensorflow']

/**
 * Makes an engine the one that all following tfjs operations of the process run on.
 *
 * - `'wasm'`: WebAssembly with SIMD, embedded, on all threads; at most 4 GiB
 * - `'cpu'`: plain JavaScript, embedded; slow, for comparison
 * - `'tensorflow'`: the native library of `@tensorflow/tfjs-node`, which the user installs
 * - `'auto'`: what the environment variable `GPTVQ_ENGINE` names; else `'tensorflow'` when it loads, else `'wasm'`
 *
 * @returns the engine that now runs
 * @throws UnsupportedError when the engine does not start, saying what to install
 * @throws OptionError for another name
 */
export async function startEngine(name: EngineName = 'auto'): Promise<StartedEngine> {
  switch (name) {
    case 'wasm':
      return startWasm()
    case 'cpu':
      return startCpu()
    case 'tensorflow':
      return startTensorflow()
    case 'auto':
      return startPreferred(process.env.GPTVQ_ENGINE || 'auto')
    default:
      throw new OptionError('engine', `found ${JSON.stringify(name)}; expected ${engineNames.join(', ')}`)
  }
}

function startPreferred(name: string): Promise<StartedEngine> {
  return name === 'auto' ? startTensorflow().catch(startWasm) : startEngine(name as EngineName)
}

/**
 * Checks, before they are loaded, that weights of `bytes` bytes fit the running engine beside the tensors it holds.
 *
 * @param what how the error names them
 * @throws UnsupportedError when they do not
 */
export function assertEngineHolds(bytes: number, what: string): void {
  if (tf.getBackend() !== 'wasm') return
  // a product on this engine keeps a second, packed copy of the weight, and the address space is 4 GiB
  const limit = 2 ** 31
  const total = tf.memory().numBytes + bytes
  if (total <= limit) return
  throw new UnsupportedError(
    `${what}: needs ${gib(total)} of float32 weights at once, the wasm engine holds ${gib(limit)}; ` +
      `use the engine tensorflow (${installHint})`,
  )
}

const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(2)} GiB`

const installHint = 'npm install @tensorflow/tfjs-node'

async function startWasm(): Promise<'wasm'> {
  const before = { uncaughtException: [] as unknown[], unhandledRejection: [] as unknown[] }
  for (const event of rethrownEvents) before[event] = process.listeners(event as 'uncaughtException')
  await import('@tensorflow/tfjs-backend-wasm')
  await select('wasm')
  // the engine's loader installs process-wide handlers that only throw the error again and hide where it came from
  for (const event of rethrownEvents) {
    for (const listener of process.listeners(event as 'uncaughtException')) {
      if (!before[event].includes(listener) && /throw (ex|reason)/.test(String(listener))) {
        process.removeListener(event, listener)
      }
    }
  }
  guardAllocation(tf.backend() as unknown as WasmBackend)
  useOwnProducts()
  return 'wasm'
}

const rethrownEvents = ['uncaughtException', 'unhandledRejection'] as const

interface WasmBackend {
  readonly wasm: { _malloc(bytes: number): number }
}

const guarded = new WeakSet<object>()

/** Without this a failed allocation is address 0, and the tensor silently overwrites the engine's memory. */
function guardAllocation({ wasm }: WasmBackend): void {
  if (guarded.has(wasm)) return
  guarded.add(wasm)
  // the loader puts the real function in place at its first call; guard that one, not the stand-in
  tf.scalar(0).dispose()
  const allocate = wasm._malloc
  wasm._malloc = (bytes) => {
    const address = allocate(bytes)
    if (address !== 0 || bytes === 0) return address
    throw new UnsupportedError(
      `the wasm engine is out of memory: ${gib(bytes)} wanted, ${gib(tf.memory().numBytes)} in use, 4 GiB at most; ` +
        `use shorter sequences, or the engine tensorflow (${installHint})`,
    )
  }
}

async function startCpu(): Promise<'cpu'> {
  await import('@tensorflow/tfjs-backend-cpu')
  await quietly(async () => {
    await select('cpu')
    tf.scalar(0).dispose()
  })
  return 'cpu'
}

async function startTensorflow(): Promise<'tensorflow'> {
  try {
    // Node 23 removed this function, which the package still calls
    if (!('isNullOrUndefined' in util)) {
      Object.assign(util, { isNullOrUndefined: (value: unknown) => value == null })
    }
    // a variable, so that neither the compiler nor a bundler looks for a package that need not be there
    const name: string = '@tensorflow/tfjs-node'
    await quietly(async () => {
      await import(name)
      await select('tensorflow')
    })
  } catch (cause) {
    throw new UnsupportedError(
      `the engine tensorflow did not start; it needs the package @tensorflow/tfjs-node (${installHint}) and its ` +
        `native library, which that package downloads while it is installed. The reason given: ${firstLine(cause)}`,
      { cause },
    )
  }
  return 'tensorflow'
}

function firstLine(cause: unknown): string {
  return String(cause instanceof Error ? cause.message : cause).split('\n')[0]
}

async function select(backend: StartedEngine): Promise<void> {
  if (tf.getBackend() !== backend && !(await tf.setBackend(backend))) {
    throw new UnsupportedError(`the engine ${backend} did not start`)
  }
  await tf.ready()
}

/**
 * Runs `start` without the greetings of tfjs, which advertises another package at the first use of an engine, and of
 * the native library, which lists the processor's instructions: that would tear a progress bar. A log level that the
 * user chose stays.
 */
async function quietly(start: () => Promise<void>): Promise<void> {
  const production = tf.env().getBool('PROD')
  const logLevel = process.env.TF_CPP_MIN_LOG_LEVEL
  tf.env().set('PROD', true)
  process.env.TF_CPP_MIN_LOG_LEVEL = logLevel ?? '1'
  try {
    await start()
  } finally {
    tf.env().set('PROD', production)
    if (logLevel === undefined) delete process.env.TF_CPP_MIN_LOG_LEVEL
  }
}
