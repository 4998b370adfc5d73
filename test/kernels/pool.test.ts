import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Worker } from 'node:worker_threads'
import { afterEach, describe, expect, it } from 'vitest'
import { OptionError, UnsupportedError } from '../../src/common/errors.js'
import { kernels, setThreads, threadCount, useKernels } from '../../src/kernels/kernels.js'
import { availableThreads } from '../../src/kernels/wasm/runtime/available-threads.js'
import { DONE, jobKinds, SCRATCH, SCRATCH_BYTES } from '../../src/kernels/wasm/runtime/job.js'
import { allocate } from '../../src/kernels/wasm/runtime/memory.js'
import { createPool, runJob, stopWorkers } from '../../src/kernels/wasm/runtime/pool.js'
import { bestBuild, startRuntime } from '../../src/kernels/wasm/runtime/runtime.js'
import { startWorker } from '../../src/kernels/wasm/runtime/workers.js'
import { trellisKernels } from '../../src/kernels/wasm/trellis/trellis.js'
import { thrownBy } from '../support/tolerance.js'
import { searchTask } from './trellis-tasks.js'

const root = fileURLToPath(new URL('../..', import.meta.url))

describe('the threads of the kernels', () => {
  it('never keep a process alive, and end with it', () => {
    const script = `
      import { kernels, setThreads } from './src/kernels/kernels.ts'
      setThreads(3)
      const block = () => ({ data: new Float32Array(600 * 600).fill(1), offset: 0, stride: 600 })
      const c = block()
      kernels().gemm('AB', 600, 600, 600, 1, block(), block(), 0, c)
      console.log(c.data[0], c.data[359999])`
    const tsx = join(root, 'node_modules', 'tsx', 'dist', 'cli.mjs')
    const output = execFileSync(process.execPath, [tsx, '--input-type=module', '-e', script], {
      cwd: root,
      timeout: 60_000,
    })
    expect(String(output).trim()).toBe('600 600')
  })

  it('a worker that dies is an error that says what to do, not a hang', async () => {
    const runtime = startRuntime(bestBuild())
    const pool = createPool(runtime, 2)
    // a module without the function that workers live in
    const empty = new WebAssembly.Module(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0))
    const worker = startWorker(empty, runtime.heap.memory, 1) as Worker
    pool.workers = 1
    await new Promise<void>((resolve) => worker.on('exit', () => resolve()))
    const error = thrownBy(() => runJob(pool, jobKinds.packRight, 2, [0, 0, 0, 0, 0, 0], 0))
    expect(error).toBeInstanceOf(UnsupportedError)
    expect(String(error)).toMatch(/worker thread.*died \(TypeError.*GPTVQ_THREADS=1/)
  })
})

describe('workers that begin while the memory grows', () => {
  it('do every tile: what an engine tells them late about the memory stops none', () => {
    for (let start = 0; start < 12; start++) {
      const pool = createPool(startRuntime(bestBuild()), 3)
      const search = (rows: number) => {
        const shape = { rowsPerStart: 2, vectorDim: 2, isScaled: false, indexBits: 2, stateBits: 4 }
        const tasks = [0, 1, 2, 3].map((seed) => searchTask({ ...shape, rows, seed }, 'whole'))
        return [...trellisKernels(pool).searchTrellis(tasks)]
      }
      // each job needs more memory than the one before, from the first on, for which the workers start
      const losses = [20, 40, 80, 160, 320, 640].map(search)
      expect(losses.every((row) => row.every(Number.isFinite))).toBe(true)
      stopWorkers(pool)
    }
  })
})

describe('the scratch memory of a job', () => {
  it('has room for every worker there is: a late one may take a tile of a job for fewer threads', () => {
    const runtime = startRuntime(bestBuild())
    const { heap } = runtime
    const board = new Int32Array(heap.memory.buffer, 0, 64)
    let [scratch, next] = [0, 0]
    const takeTiles = () => {
      scratch = board[SCRATCH / 4]
      next = allocate(heap, 64)
      Atomics.store(board, DONE / 4, 1)
    }
    runJob({ runtime: { ...runtime, takeTiles }, threads: 1, workers: 2 }, jobKinds.packRight, 1, [], 1000)
    const [own, others] = [board[SCRATCH_BYTES / 4], 2]
    expect(own).toBeGreaterThanOrEqual(1000)
    expect(next < scratch || next >= scratch + (1 + others) * own).toBe(true)
  })
})

describe('the number of threads', () => {
  const before = process.env.GPTVQ_THREADS
  afterEach(() => {
    if (before === undefined) delete process.env.GPTVQ_THREADS
    else process.env.GPTVQ_THREADS = before
  })

  it('is GPTVQ_THREADS where that is set', () => {
    process.env.GPTVQ_THREADS = '3'
    expect(availableThreads()).toBe(3)
  })

  it('is otherwise at least one and at most the cores', () => {
    process.env.GPTVQ_THREADS = ''
    expect(availableThreads()).toBeGreaterThanOrEqual(1)
    expect(availableThreads()).toBeLessThanOrEqual(256)
  })

  it.each(['0', '-1', '1.5', 'two', '1000'])('refuses GPTVQ_THREADS=%s', (value) => {
    process.env.GPTVQ_THREADS = value
    expect(() => availableThreads()).toThrow(OptionError)
    expect(() => availableThreads()).toThrow(value)
  })

  it.each([0, 2.5, 257, Number.NaN])('refuses setThreads(%s)', (count) => {
    expect(() => setThreads(count)).toThrow(OptionError)
  })

  it('can be changed at any time', () => {
    const given = threadCount()
    setThreads(1)
    expect(threadCount()).toBe(1)
    setThreads(given)
  })
})

describe('the kernels in use', () => {
  it('are the fastest build that the engine runs, unless told otherwise', () => {
    expect(kernels().name).toBe(bestBuild())
    expect(useKernels('reference').name).toBe('reference')
    expect(kernels().name).toBe('reference')
    expect(useKernels('baseline').name).toBe('baseline')
  })
})
