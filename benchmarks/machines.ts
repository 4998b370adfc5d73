/**
 * Layers over several workers on this machine, each a process with one thread, beside one worker and none:
 * `npm run bench:machines [-- --size 384] [-- --kills 50]`. Some layers are jobs as a whole, some in panels of rows. With
 * `--kills`, workers are killed at random times while the layers are quantized again and again, and every result is
 * compared with that of one machine. How it goes on to more machines: `machines-model.ts`.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { openCoordinator } from '../src/distributed/coordinator.js'
import type { Timing } from '../src/distributed/protocol.js'
import { setThreads } from '../src/kernels/kernels.js'
import { bestBuild } from '../src/kernels/wasm/runtime/runtime.js'
import { type LayerResult, type LayerWork, quantizeHere } from '../src/pipeline/quantize/layers/layer-work.js'
import { teamRunner } from '../src/pipeline/quantize/layers/team-runner.js'
import { resolveMethod } from '../src/pipeline/quantize/quantize-options.js'
import { highLayer, shortTiming, type WorkerProcess, workerProcess } from '../test/distributed/support.js'
import { startRedis } from '../test/support/redis-server.js'
import { correlatedHessian, heavyTailedWeight } from './synthetic.js'

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '384' },
    jobs: { type: 'string', default: '4' },
    kills: { type: 'string', default: '0' },
  },
})
const [size, jobs, kills] = [values.size, values.jobs, values.kills].map(Number)
const timing: Timing = kills > 0 ? shortTiming : { ...shortTiming, lock: 30_000, stalled: 10_000 }
setThreads(1)

const whole = Array.from(
  { length: jobs },
  (_, i): LayerWork => ({
    name: `layer ${i}`,
    weight: heavyTailedWeight(size, size, i),
    inputs: { hessian: correlatedHessian(size, 1), tokens: 16 * size },
    settings: resolveMethod('gptvq', { bits: 2 }),
    driftShare: 1,
  }),
)
const works = [...whole, highLayer()]
const server = await startRedis()
const redis = server.url
const team = await openCoordinator({ redis, arithmetic: { build: bestBuild(), products: 'wasm' }, timing })
const away = (work: LayerWork) => teamRunner(team, true)(work, {})
const workers: WorkerProcess[] = []
const addWorker = async () => {
  workers.push(await workerProcess({ redis, timing, threads: 1 }))
}

try {
  const expected: string[] = []
  const before = process.cpuUsage()
  for (const work of works) expected.push(digestOf(await quantizeHere(work, {})))
  const { user, system } = process.cpuUsage(before)
  const alone = 1e-6 * (user + system)
  const { rows, cols } = works.at(-1)!.weight
  console.log(`${jobs} layers of ${size} x ${size} and one of ${rows} x ${cols} in panels, one thread`)
  if (kills > 0) await killAtRandom(expected)
  else await scale(expected, alone)
} finally {
  for (const worker of workers) await worker.kill()
  await team.close()
  await server.close()
}

/** @param alone processor seconds without a queue */
async function scale(expected: readonly string[], alone: number): Promise<void> {
  console.log('\n| workers | CPU s, all | CPU s, the busiest | times as fast, a core each | same bytes |')
  console.log('| ------- | ---------- | ------------------ | -------------------------- | ---------- |')
  console.log(`| no queue | ${alone.toFixed(1)} | ${alone.toFixed(1)} | 1 | |`)
  for (const count of [1, 2, 4]) {
    while (workers.length < count) await addWorker()
    // what a worker compiles at its first job belongs to its start
    await Promise.all(workers.map(() => away({ ...works[0], weight: heavyTailedWeight(64, size, 99) })))
    const pids = workers.map(({ child }) => child.pid!)
    const start = cpuSeconds(pids)
    const results = await Promise.all(works.map(away))
    const taken = cpuSeconds(pids).map((end, i) => end - start[i])
    const [all, busiest] = [taken.reduce((sum, own) => sum + own, 0), Math.max(...taken)]
    const same = results.every((result, i) => digestOf(result) === expected[i])
    const figures = [all.toFixed(1), busiest.toFixed(1), (alone / busiest).toFixed(2)]
    console.log(`| ${count} | ${figures.join(' | ')} | ${same ? 'yes' : 'NO'} |`)
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

/** Processor seconds that processes have taken so far. */
function cpuSeconds(pids: readonly number[]): number[] {
  return pids.map((pid) => {
    // user and system time are the 14th and 15th field, in hundredths; the second is a name in brackets
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
    return (Number(fields[11]) + Number(fields[12])) / 100
  })
}

function digestOf({ layer, relativeError }: LayerResult): string {
  const digest = createHash('sha256').update(String(relativeError))
  if (!('layout' in layer)) throw new Error('expected a vector-quantized layer')
  for (const { buffer, byteOffset, byteLength } of [layer.indices, layer.codebooks, layer.codebookScales]) {
    digest.update(new Uint8Array(buffer, byteOffset, byteLength))
  }
  return digest.update(layer.blockScales?.codes ?? '').digest('hex')
}
