/**
 * Layers and calibration over several workers on this machine, each a process with one thread, beside one worker and none:
 * `npm run bench:machines [-- --size 384] [-- --batches 16] [-- --kills 50]`. Some layers are jobs as a whole, some in
 * panels of rows; calibration takes batches of 2048 tokens through the first block of the embedded model. With `--kills`,
 * workers are killed at random times while all of it is done again and again, and every result is compared with that of
 * one machine. With `--namespaces`, workers are in network namespaces of their own (Linux, as root), and one loses its
 * network in the end; `--workers 2` is how many there are at most. How it goes on to more machines: `machines-model.ts`.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { randomGenerator } from '../../src/common/random.js'
import { openCoordinator } from '../../src/distributed/coordinator.js'
import type { Timing } from '../../src/distributed/protocol.js'
import { setThreads } from '../../src/kernels/kernels.js'
import { bestBuild } from '../../src/kernels/wasm/runtime/runtime.js'
import { disposeBlock, openBlock } from '../../src/model/decoder/block.js'
import type { Stage } from '../../src/model/decoder/block-state.js'
import { openEmbedding } from '../../src/model/decoder/embedding.js'
import { blockStages } from '../../src/model/decoder/stages.js'
import { startEngine } from '../../src/model/ops/engine.js'
import {
  calibrationStream,
  copyStream,
  TOKENS_PER_BATCH,
} from '../../src/pipeline/calibrate/calibration-stream.js'
import { chunkTeam } from '../../src/pipeline/calibrate/chunk-team.js'
import { type StageRunner, stepHere } from '../../src/pipeline/calibrate/stage-runner.js'
import { openModel } from '../../src/pipeline/folders/open-model.js'
import {
  type LayerResult,
  type LayerWork,
  quantizeHere,
} from '../../src/pipeline/quantize/layers/layer-work.js'
import { teamRunner } from '../../src/pipeline/quantize/layers/team-runner.js'
import { resolveMethod } from '../../src/pipeline/quantize/quantize-options.js'
import { highLayer, shortTiming, type WorkerProcess, workerProcess } from '../../test/distributed/support.js'
import { startRedis } from '../../test/support/redis-server.js'
import { modelFolder } from '../common/real-layers.js'
import { correlatedHessian, heavyTailedWeight } from '../common/synthetic.js'
import { openNetwork } from './namespaces.js'

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '384' },
    jobs: { type: 'string', default: '4' },
    batches: { type: 'string', default: '16' },
    kills: { type: 'string', default: '0' },
    workers: { type: 'string', default: '4' },
    namespaces: { type: 'boolean', default: false },
  },
})
const [size, jobs, batches, kills] = [values.size, values.jobs, values.batches, values.kills].map(Number)
const timing: Timing = kills > 0 ? shortTiming : { ...shortTiming, lock: 30_000, stalled: 10_000 }
setThreads(1)

/** Tokens of a sequence. */
const SEQUENCE = 256

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
await startEngine('wasm')
const model = await openModel(modelFolder)
const network = values.namespaces ? openNetwork() : undefined
// a server that others can reach wants a password
const server = await (network ? startRedis('namespaces', undefined, network.host) : startRedis())
const redis = server.url
const team = await openCoordinator({ redis, arithmetic: { build: bestBuild(), products: 'wasm' }, timing })
const away = (work: LayerWork) => teamRunner(team, true)(work, {})
const stepAway = chunkTeam(team)
const workers: WorkerProcess[] = []
const addWorker = async () => {
  workers.push(await workerProcess({ redis, timing, threads: 1 }, 0, network?.add()))
}

try {
  const layers = await measuredHere(async () => {
    const digests: string[] = []
    for (const work of works) digests.push(digestOf(await quantizeHere(work, {})))
    return digests
  })
  const calibration = await measuredHere(() => calibrated(stepHere))
  const { rows, cols } = works.at(-1)!.weight
  console.log(`${jobs} layers of ${size} x ${size} and one of ${rows} x ${cols} in panels, one thread`)
  const tokens = `${batches} batches of ${TOKENS_PER_BATCH} tokens`
  console.log(`calibration: ${tokens} through a block of ${model.config.hiddenSize} features`)
  if (kills > 0) await killAtRandom([...layers.result, calibration.result])
  else await scale(layers, calibration)
  if (network) await loseNetwork(layers.result)
} finally {
  for (const worker of workers) await worker.kill()
  await model.close()
  await team.close()
  await server.close()
  network?.close()
}

/** What came of some work without a queue, and in how many processor seconds. */
interface Alone<T> {
  readonly result: T
  readonly seconds: number
}

async function measuredHere<T>(work: () => Promise<T>): Promise<Alone<T>> {
  const before = process.cpuUsage()
  const result = await work()
  const { user, system } = process.cpuUsage(before)
  return { result, seconds: 1e-6 * (user + system) }
}

/** The tokens through the stages of a block; what its layers read, and what comes out. */
async function calibrated(run: StageRunner): Promise<string> {
  const { config, source } = model
  const random = randomGenerator(1)
  const tokens = Int32Array.from({ length: batches * TOKENS_PER_BATCH }, () =>
    Math.floor(random() * config.vocabSize),
  )
  const embed = await openEmbedding(source, config)
  const present = calibrationStream(config, await embed(tokens), SEQUENCE)
  const block = await openBlock(source, config.blocks[0])
  const full = { block, stream: copyStream(present) }
  const step = {
    block,
    layers: new Map(),
    stream: present,
    full,
    tokenWeights: 'attention',
    signal: undefined,
  } as const
  const digest = createHash('sha256')
  let passing: Stage | undefined
  for (const stage of blockStages(block.description)) {
    const seen = (await run({ ...step, passing, collecting: stage }))!
    for (const { hessian, drift } of new Set(seen.values())) {
      digest.update(hessian.data)
      for (const { input } of drift!) digest.update(input.data)
    }
    passing = stage
  }
  await run({ ...step, passing, collecting: undefined })
  for (const batch of present.batches) digest.update((await batch.read()).residual!.data)
  disposeBlock(block)
  return digest.digest('hex')
}

async function scale(layers: Alone<string[]>, calibration: Alone<string>): Promise<void> {
  console.log(
    '\n| work | workers | CPU s, all | CPU s, the busiest | times as fast, a core each | same bytes |',
  )
  console.log(
    '| ---- | ------- | ---------- | ------------------ | -------------------------- | ---------- |',
  )
  for (const [work, { seconds }] of [
    ['layers', layers],
    ['calibration', calibration],
  ] as const) {
    console.log(`| ${work} | no queue | ${seconds.toFixed(1)} | ${seconds.toFixed(1)} | 1 | |`)
  }
  for (const count of [1, 2, 4].filter((count) => count <= Number(values.workers))) {
    while (workers.length < count) await addWorker()
    // what a worker compiles at its first job belongs to its start
    await Promise.all(workers.map(() => away({ ...works[0], weight: heavyTailedWeight(64, size, 99) })))
    await calibrated(stepAway)
    const ofLayers = async () => (await Promise.all(works.map(away))).map(digestOf).join()
    await row('layers', layers.seconds, layers.result.join(), ofLayers)
    await row('calibration', calibration.seconds, calibration.result, () => calibrated(stepAway))
  }
}

/** @param alone processor seconds without a queue */
async function row(what: string, alone: number, expected: string, work: () => Promise<string>) {
  const pids = workers.map(({ child }) => child.pid!)
  const start = cpuSeconds(pids)
  const same = (await work()) === expected
  const taken = cpuSeconds(pids).map((end, i) => end - start[i])
  const [all, busiest] = [taken.reduce((sum, own) => sum + own, 0), Math.max(...taken)]
  const figures = [all.toFixed(1), busiest.toFixed(1), (alone / busiest).toFixed(2)]
  console.log(`| ${what} | ${workers.length} | ${figures.join(' | ')} | ${same ? 'yes' : 'NO'} |`)
}

/** Layers while the first worker has one and is cut off: the others do it once its lock has expired. */
async function loseNetwork(expected: readonly string[]): Promise<void> {
  const before = workers[0].jobs().length
  const results = Promise.all(works.map(async (work) => digestOf(await away(work))))
  while (workers[0].jobs().length === before) await new Promise((resolve) => setTimeout(resolve, 10))
  network!.cut()
  const start = performance.now()
  const same = (await results).join() === expected.join()
  const seconds = ((performance.now() - start) / 1000).toFixed(0)
  console.log(
    `\na worker without its network: layers done ${seconds} s after that, same bytes: ${same ? 'yes' : 'NO'}`,
  )
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
    const layers = await Promise.all(works.map(async (work) => digestOf(await away(work))))
    const results = [...layers, await calibrated(stepAway)]
    done += results.length
    wrong += results.filter((result, i) => result !== expected[i]).length
    console.log(`${killed} kills, ${done} layers and calibrations done, ${wrong} with other bytes`)
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
