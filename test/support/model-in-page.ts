// Runs in Node and, bundled, in a worker of a browser: a model read from a URL or folder, quantized, and writing text.
import { openGenerator } from 'gptvq/generate'
import { evaluateModel, httpSource, quantizeModel } from 'gptvq/model'
import { threadCount } from '../../src/kernels/kernels.js'
import { jobKinds, WAKE } from '../../src/kernels/wasm/runtime/job.js'
import { createPool, runJob, stopWorkers } from '../../src/kernels/wasm/runtime/pool.js'
import { startRuntime } from '../../src/kernels/wasm/runtime/runtime.js'
import { packLayer } from '../../src/packing/pack-layer.js'

/** What can be passed out of a page. */
export interface ModelInPage {
  /** Greedy tokens. */
  readonly tokens: number[]
  readonly perplexity: number
  /** Bytes of the indices of every quantized layer, by name. */
  readonly indices: Record<string, number[]>
  readonly threads: number
}

const calibration = { text: 'The cat sat on the mat and looked at the dog. '.repeat(60) }

/** @param place a URL in a browser, a path in Node */
export async function modelInPage(place: string, files?: readonly string[]): Promise<ModelInPage> {
  const model = files === undefined ? place : httpSource(place, { files })
  const generator = await openGenerator({ model })
  const tokens: number[] = []
  for await (const { token } of generator.generate({ prompt: 'Once', maxTokens: 12, temperature: 0 })) {
    tokens.push(token)
  }
  await generator.close()
  const { perplexity } = await evaluateModel({ model, text: calibration, windows: 2, engine: 'wasm' })
  const indices: Record<string, number[]> = {}
  await quantizeModel({
    model,
    calibration,
    sequences: 4,
    sequenceLength: 32,
    groupSize: 1024,
    engine: 'wasm',
    onLayer: (name, layer) => {
      if ('layout' in layer) indices[name] = [...packLayer(layer).indices]
    },
  })
  return { tokens, perplexity, indices, threads: threadCount() }
}

/** Workers of a pool of four threads that wait for the next job, once each had time to begin. */
export async function waitingWorkers(): Promise<number> {
  const pool = createPool(startRuntime('baseline'), 4)
  const board = new Int32Array(pool.runtime.heap.memory.buffer)
  try {
    for (let turn = 0; turn < 200; turn++) {
      runJob(pool, jobKinds.packRight, 8, [0, 0, 0, 0, 0, 0], 0)
      await new Promise((resolve) => setTimeout(resolve, 20))
      const woken = Atomics.notify(board, WAKE / 4)
      if (woken >= 3 || (pool.workers === 0 && turn > 3)) return woken
    }
    return 0
  } finally {
    stopWorkers(pool)
  }
}
