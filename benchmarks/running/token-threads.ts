/**
 * Writing tokens on one thread and on two, in turn: a model of 4 blocks of random weights (hidden 2048, feed-forward 5632,
 * 32000 words), each token a few dozen jobs of 0.1 to 1 ms. `npx tsx benchmarks/running/token-threads.ts` prints Markdown. Beside
 * the median it gives the fastest fifth, since a thread that another program keeps from its core holds up the others.
 */
import { setThreads } from '../../src/kernels/kernels.js'
import { startEngine } from '../../src/model/ops/engine.js'
import { setPackedActivations } from '../../src/model/ops/kernels/kernel-weights.js'
import { decodeSteps, loadDecoder, openCaches } from '../../src/model/passes/cached-decoder.js'
import type { PackedQuantizedLayer } from '../../src/packing/quantized-layer.js'
import { vectorLayer } from '../common/random-layers.js'
import { describeSizes, randomWeights } from '../common/random-model.js'

const TOKENS = 80
const WARM_UP = 20
const sizes = { name: 'random', hidden: 2048, inner: 5632, heads: 32, kvHeads: 8, blocks: 4, words: 32000 }

await startEngine('wasm')
console.log('| layers | on one thread, ms | fastest fifth: times on two | median: times on two |')
console.log('| ------ | ----------------- | --------------------------- | -------------------- |')
for (const trellisBits of [0, 8]) {
  const [one, two] = await tokenTimes(trellisBits)
  const times = (share: number) => (quantile(one, share) / quantile(two, share)).toFixed(2)
  const name = trellisBits > 0 ? '2-D, 2 bits, trellis' : '2-D, 2 bits'
  console.log(`| ${name} | ${quantile(one, 0.2).toFixed(1)} | ${times(0.2)} | ${times(0.5)} |`)
}
process.exit(0)

/** Milliseconds of a token on one thread and on two. */
async function tokenTimes(trellisBits: number): Promise<[number[], number[]]> {
  const known = new Map<string, PackedQuantizedLayer>()
  const make = (rows: number, cols: number) => {
    const layer = known.get(`${rows} ${cols}`) ?? vectorLayer(rows, cols, { trellisBits })
    known.set(`${rows} ${cols}`, layer)
    return layer
  }
  const decoder = await loadDecoder(randomWeights(sizes, make), describeSizes(sizes), { keepsPacked: true })
  setPackedActivations('int16')
  const caches = openCaches(decoder, 1, 2 * TOKENS)
  const times: [number[], number[]] = [[], []]
  for (let i = 0; i < 2 * TOKENS; i++) {
    setThreads(1 + (i % 2))
    const begin = performance.now()
    await decodeSteps(decoder, [{ caches, tokens: Int32Array.of(i), span: 2 * TOKENS, predicts: true }])
    if (i >= 2 * WARM_UP) times[i % 2].push(performance.now() - begin)
  }
  return times
}

function quantile(values: readonly number[], share: number): number {
  return [...values].sort((a, b) => a - b)[Math.floor(share * values.length)]
}
