import { cutWindows, type OpenModel, openModel, readTokens, startEngine } from 'gptvq/model'
import { forwardKernels } from '../../src/kernels/forward-kernels.js'
import { kernelOps } from '../../src/model/ops/kernels/kernel-ops.js'
import { type CachePrecision, cachePrecisions } from '../../src/model/ops/ops.js'
import {
  cacheBytes,
  closeCaches,
  type Decoder,
  decodeTokens,
  disposeDecoder,
  loadDecoder,
  openCaches,
} from '../../src/model/passes/cached-decoder.js'
import {
  addComparison,
  addNll,
  emptySums,
  meanScores,
  predictionsOf,
} from '../../src/pipeline/evaluate/evaluation-scores.js'
import { hasty, spreadOf, thorough, timeTogether } from '../common/harness.js'
import { normals } from '../common/random-layers.js'
import { modelFolder, sequenceLength } from '../common/real-layers.js'
import type { Row, Table } from '../common/report.js'
import type { SuiteOptions } from '../common/suites.js'

/** Keys and values cached in float32 and in int8: what it does to the predictions, to memory, and to time. */
export async function run({ quick }: SuiteOptions): Promise<Table[]> {
  await startEngine('wasm')
  const model = await openModel(modelFolder)
  try {
    return [await divergenceTable(model, quick), await attentionTable(quick)]
  } finally {
    await model.close()
  }
}

/** Tokens that are read at once: all others before them come from the cache. */
const STEP = 16

async function divergenceTable(model: OpenModel, quick: boolean): Promise<Table> {
  const text = await readTokens(`${modelFolder}/texts/evaluation.txt`, modelFolder, model.config)
  const windows = cutWindows(text, sequenceLength, quick ? 1 : 32)
  const decoder = await loadDecoder(model.source, model.config)
  const rows: Row[] = []
  for (const precision of cachePrecisions) rows.push(await divergence(decoder, windows, precision))
  disposeDecoder(decoder)
  return {
    id: 'cache-divergence',
    title: 'Predictions from cached keys and values',
    note:
      `tiny-llama on ${windows.length} windows of ${sequenceLength} tokens of its evaluation text, read ${STEP} tokens at a ` +
      'time behind what is cached; KL divergence and top-1 agreement to the same from a cache in float32.',
    columns: [
      { key: 'cache', label: 'cache' },
      { key: 'bytes', label: 'bytes per token', decimals: 0 },
      { key: 'perplexity', label: 'perplexity', decimals: 3 },
      { key: 'kl', label: 'KL', digits: 2 },
      { key: 'top1', label: 'top-1 agreement', decimals: 4 },
    ],
    rows,
    keys: ['cache'],
    compared: 'perplexity',
  }
}

async function divergence(
  decoder: Decoder,
  windows: readonly Int32Array[],
  precision: CachePrecision,
): Promise<Row> {
  const { config } = decoder
  const sums = emptySums()
  const { allocate, release } = forwardKernels()
  const [fine, coarse] = [0, 1].map(() => allocate(STEP * config.vocabSize))
  for (const window of windows) {
    const caches = [
      openCaches(decoder, 1, window.length),
      openCaches(decoder, 1, window.length, precision),
    ] as const
    for (let first = 0; first < window.length; first += STEP) {
      const tokens = window.subarray(first, first + STEP)
      const part = { windows: [window], context: window.length, first, count: tokens.length }
      const [reference, found] = [
        await decodeTokens(decoder, caches[0], tokens, fine.subarray(0, tokens.length * config.vocabSize)),
        await decodeTokens(decoder, caches[1], tokens, coarse.subarray(0, tokens.length * config.vocabSize)),
      ].map((logits) => predictionsOf(logits, config.vocabSize, part))
      addNll(found, part, sums)
      addComparison(reference, found, part, sums)
    }
    caches.forEach(closeCaches)
  }
  release(fine)
  release(coarse)
  const { perplexity, klDivergence, top1Agreement } = meanScores(sums, true)
  return {
    cache: precision,
    bytes: cacheBytes(config, 1, precision),
    perplexity,
    kl: klDivergence!,
    top1: top1Agreement!,
  }
}

async function attentionTable(quick: boolean): Promise<Table> {
  const rows: Row[] = []
  for (const position of quick ? [15] : [255, 2047, 8191]) {
    for (const length of quick ? [1] : [1, 64]) rows.push(...(await timeAttention(position, length, quick)))
  }
  return {
    id: 'cache-attention',
    title: 'Attention over cached keys and values',
    note:
      'One block of a model with 32 heads of 64 dimensions that share 8 keys and values, on all threads, in turn: the ' +
      'queries of some tokens, their keys and values stored first. `at`: positions that are cached already.',
    columns: [
      { key: 'position', label: 'at', decimals: 0 },
      { key: 'length', label: 'queries', decimals: 0 },
      { key: 'cache', label: 'cache' },
      { key: 'megabytes', label: 'MB', digits: 3 },
      { key: 'milliseconds', label: 'ms', digits: 3 },
      { key: 'ratio', label: 'to float32', digits: 3 },
      { key: 'spread', label: 'spread %', decimals: 0 },
    ],
    rows,
    keys: ['position', 'length', 'cache'],
    compared: 'milliseconds',
  }
}

const shape = { heads: 32, kvHeads: 8, headDim: 64, scale: 0.125, softCap: undefined, window: undefined }

async function timeAttention(position: number, length: number, quick: boolean): Promise<Row[]> {
  const [cols, kvCols] = [shape.heads * shape.headDim, shape.kvHeads * shape.headDim]
  const capacity = position + length
  const upload = (rows: number, width: number, seed: number) =>
    kernelOps.upload(normals(rows * width, seed), rows, width)
  const held = cachePrecisions.map((precision) => {
    const cache = kernelOps.openCache(1, capacity, shape, precision)
    kernelOps.tidy(() => {
      const [q, k, v] = [upload(position, cols, 1), upload(position, kvCols, 2), upload(position, kvCols, 3)]
      kernelOps.attend(q, k, v, { sequences: 1, length: position, position: 0 }, shape, cache)
    })
    return { precision, cache }
  })
  const [q, k, v] = [upload(length, cols, 4), upload(length, kvCols, 5), upload(length, kvCols, 6)]
  const timings = await timeTogether(
    held.map(({ precision, cache }) => ({
      name: precision,
      run: () => {
        cache.positions = position
        kernelOps.tidy(() => {
          kernelOps.attend(q, k, v, { sequences: 1, length, position }, shape, cache)
        })
      },
    })),
    quick ? hasty : thorough,
  )
  for (const { cache } of held) kernelOps.closeCache(cache)
  kernelOps.free(q, k, v)
  const description = { blocks: [{ attention: shape }] }
  return cachePrecisions.map((precision) => {
    const timing = timings.get(precision)!
    return {
      ...{ position, length, cache: precision },
      megabytes: 1e-6 * cacheBytes(description, capacity, precision),
      milliseconds: 1e3 * timing.seconds,
      ratio: timing.seconds / timings.get('float32')!.seconds,
      spread: spreadOf(timing),
    }
  })
}
