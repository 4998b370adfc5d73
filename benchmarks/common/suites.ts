import type { Table } from './report.js'

/** What a suite is asked for. */
export interface SuiteOptions {
  /** Small sizes and few runs: shows that everything works, measures nothing. */
  readonly quick: boolean
  /** The large layers too, which take minutes. */
  readonly full: boolean
  /** Of the suite `layer` this square layer alone, on one thread. */
  readonly size?: number
}

interface Suite {
  readonly summary: string
  readonly load: () => Promise<{ run: (options: SuiteOptions) => Promise<Table[]> }>
}

/** All suites in the order they run. A suite is loaded in its own process only. */
export const suites: Readonly<Record<string, Suite>> = {
  accuracy: {
    summary: 'reconstruction error of GPTVQ, GPTQ, RTN and plain k-means at 2 to 4.5 bits per value',
    load: () => import('../layers/accuracy.js'),
  },
  cache: {
    summary: 'keys and values cached in float32 and in int8: predictions, memory, time',
    load: () => import('../running/cache.js'),
  },
  generate: {
    summary: 'writing text: tokens per second and memory of packed weights, float32 and llama.cpp',
    load: () => import('../running/generate.js'),
  },
  kernels: {
    summary: 'products and clustering against plain loops and other packages',
    load: () => import('../kernels/kernels.js'),
  },
  layer: {
    summary: 'whole layers: time, phases, memory, growth with size',
    load: () => import('../layers/layer.js'),
  },
  shared: {
    summary: 'layers that share a Hessian: a factor for each against one for all',
    load: () => import('../layers/shared.js'),
  },
  memory: {
    summary: 'the most memory that a process takes which writes with a quantized folder',
    load: () => import('../running/memory.js'),
  },
  model: {
    summary: "the quickstart's phases: seconds and tokens per second",
    load: () => import('../models/model.js'),
  },
  packed: {
    summary: 'products with packed weights against those with float32 weights and copies',
    load: () => import('../kernels/packed.js'),
  },
}
