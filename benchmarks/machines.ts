/**
 * Layers over several workers on this machine, each a process with one thread, beside one worker and none:
 * `npm run bench:machines [-- --size 512] [-- --kills 50]`. With `--kills`, workers are killed at random times while a
 * model's layers are quantized again and again, and every result is compared with that of one machine.
 */
import { createHash } from 'node:crypto'
import { parseArgs } from 'node:util'
import { openCoordinator } from '../src/distributed/coordinator.js'
import type { Timing } from '../src/distributed/protocol.js'
import { setThreads } from '../src/kernels/kernels.js'
import { bestBuild } from '../src/kernels/wasm/runtime/runtime.js'
import { type LayerResult, type LayerWork, quantizeHere } from '../src/pipeline/quantize/layers/layer-work.js'
import { resolveMethod } from '../src/pipeline/quantize/quantize-options.js'
import { shortTiming, type WorkerProcess, workerProcess } from '../test/distributed/support.js'
import { startRedis } from '../test/support/redis-server.js'
import { correlatedHessian, heavyTailedWeight } from './synthetic.js'

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '512' },
    jobs: { type: 'string', default: '4' },
    kills: { type: 'string', default: '0' },
  },
})
const [size, jobs, kills] = [values.size, values.jobs, values.kills].map(Number)
const timing: Timing = kills > 0 ? shortTiming : { ...shortTiming, lock: 30_000, stalled: 10_000 }
setThreads(1)

const works = Array.from(
  { length: jobs },
  (_, i): LayerWork => ({
    name: `layer ${i}`,
    weight: heavyTailedWeight(size, size, i),
    inputs: { hessian: correlatedHessian(size, 1), tokens: 16 * size },
    settings: resolveMethod('gptvq', { bits: 2 }),
    driftShare: 1,
  }),
)
const server = await startRedis()
const redis = server.url
const team = await openCoordinator({ redis, arithmetic: { build: bestBuild(), products: 'wasm' }, timing })
const workers: WorkerProcess[] = []
const addWorker = async () => {
  workers.push(await workerProcess({ redis, timing, threads: 1 }))
}

try {
  const start = performance.now()
  const expected: string[] = []
  for (const work of works) expected.push(digestOf(await quantizeHere(work, {})))
  const alone = (performance.now() - start) / 1000
  console.log(`${jobs} layers of ${size} x ${size}, one thread, no queue: ${alone.toFixed(1)} s`)
  if (kills > 0) await killAtRandom(expected)
  else await scale(expected, alone)
} finally {
  for (const worker of workers) await worker.kill()
  await team.close()
  await server.close()
}

async function scale(expected: readonly string[], alone: number): Promise<void> {
  console.log('\n| workers | seconds | times as fast as no queue | same bytes |')
  console.log('| ------- | ------- | ------------------------- | ---------- |')
  for (const count of [1, 2, 4]) {
    while (workers.length < count) await addWorker()
    // what a worker compiles at its first job belongs to its start
    await Promise.all(workers.map(() => away({ ...works[0], weight: heavyTailedWeight(64, size, 99) })))
    const start = performance.now()
    const results = await Promise.all(works.map(away))
    const seconds = (performance.now() - start) / 1000
    const same = results.every((result, i) => digestOf(result) === expected[i])
    console.log(
      `| ${count} | ${seconds.toFixed(1)} | ${(alone / seconds).toFixed(2)} | ${same ? 'yes' : 'NO'} |`,
    )
  }
}

async function killAtRandom(expected: readonly string[]): Promise<void> {
  await addWorker()
  await addWorker()
  let [killed, done, wrong] = [0, 0, 0]
  const killing = (async () => {
    while (killed < kills) {
      await new Promise((resolve) => setTimeout(resolve, 500 + 3000 * Math.random()))
      await workers.splice(Math.floor(Math.random() * workers.length), 1)[0].kill()
      killed++
      await addWorker()
    }
  })()
  while (killed < kills) {
    const results = await Promise.all(works.map(away))
    done += results.length
    wrong += results.filter((result, i) => digestOf(result) !== expected[i]).length
    console.log(`${killed} kills, ${done} layers done, ${wrong} with other bytes`)
  }
  await killing
}

function away(work: LayerWork): Promise<LayerResult> {
  return team.run('layer', work, {}) as Promise<LayerResult>
}

function digestOf({ layer, relativeError }: LayerResult): string {
  const digest = createHash('sha256').update(String(relativeError))
  if (!('layout' in layer)) throw new Error('expected a vector-quantized layer')
  for (const { buffer, byteOffset, byteLength } of [layer.indices, layer.codebooks, layer.codebookScales]) {
    digest.update(new Uint8Array(buffer, byteOffset, byteLength))
  }
  return digest.update(layer.blockScales?.codes ?? '').digest('hex')
}
