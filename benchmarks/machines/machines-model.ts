/**
 * How work over many machines goes on: the parts of a layer's work are measured here, in processor seconds of one thread,
 * and a block of Llama-2-7B on 1 to 64 machines is worked out from them:
 * `npx tsx benchmarks/machines/machines-model.ts [--cores 16] [--gigabits 10]`, for 16 and for 128 sequences of 2048 tokens. Machines are taken to have so many cores that share
 * a job's work evenly, and to be `gigabits` per second from Redis, which is one machine.
 */
import { createHash } from 'node:crypto'
import { parseArgs } from 'node:util'
import { driftPulls } from '../../src/gptvq/drift-correction.js'
import { layerFrame } from '../../src/gptvq/layer-frame.js'
import { panelsOf } from '../../src/gptvq/layer-panels.js'
import { resolveVqOptions } from '../../src/gptvq/options.js'
import { quantizePanel } from '../../src/gptvq/quantize-layer.js'
import { dampedInverseFactor, shareFactors } from '../../src/hessian/inverse-factor.js'
import { wholeBlock } from '../../src/kernels/contract.js'
import { kernels, setThreads } from '../../src/kernels/kernels.js'
import { layoutOf } from '../../src/packing/layout.js'
import { chunksOf } from '../../src/pipeline/calibrate/chunks.js'
import { gaussianMatrix } from '../../test/support/random-matrix.js'
import { correlatedHessian, heavyTailedWeight } from '../common/synthetic.js'

const { values } = parseArgs({
  options: { cores: { type: 'string', default: '16' }, gigabits: { type: 'string', default: '10' } },
})
const [cores, gigabits] = [Number(values.cores), Number(values.gigabits)]
setThreads(1)

/** Tokens of a sequence, which is a batch. */
const LENGTH = 2048
const ROWS = 256
const [SMALL, LARGE] = [512, 1024]

/** The turns of a block: layers that share their inputs. */
const turns = [
  { name: 'q, k, v', inputs: 4096, rows: [4096, 4096, 4096], residual: false },
  { name: 'o', inputs: 4096, rows: [4096], residual: true },
  { name: 'gate, up', inputs: 4096, rows: [11008, 11008], residual: false },
  { name: 'down', inputs: 11008, rows: [4096], residual: true },
] as const
type Turn = (typeof turns)[number]

const parts = await measured()
console.log('| part, one thread | measured at | CPU s |')
console.log('| ---------------- | ----------- | ----- |')
for (const [name, where, seconds] of parts.shown)
  console.log(`| ${name} | ${where} | ${seconds.toFixed(2)} |`)

for (const sequences of [16, 128]) {
  const calibration = calibrationSeconds(sequences, 1)
  console.log(
    `\n${sequences} x ${LENGTH} tokens; calibration of a block, on one machine of ${cores} cores: ${calibration.toFixed(0)} s\n`,
  )
  console.log(
    '| machines | calibration, s | layers, s | moved, GB | moving, s | block, s | times as fast | only calibration in turn |',
  )
  console.log(
    '| -------- | -------------- | --------- | --------- | --------- | -------- | ------------- | ------------------------ |',
  )
  const alone = calibration + layersOfBlock(1)
  for (const machines of [1, 2, 4, 16, 64]) {
    const [shared, layers] = [calibrationSeconds(sequences, machines), layersOfBlock(machines)]
    const ofLayers = 1e-9 * turns.reduce((sum, turn) => sum + movedBytes(turn, machines), 0)
    const gigabytes = ofLayers + 1e-9 * calibrationBytes(sequences, machines)
    const seconds = (moved: number) => (machines === 1 ? 0 : (8 * moved) / gigabits)
    const block = shared + layers + seconds(gigabytes)
    const figures = [shared, layers, gigabytes, seconds(gigabytes), block].map((value) => value.toFixed(0))
    const before = calibration + layers + seconds(ofLayers)
    console.log(
      `| ${machines} | ${figures.join(' | ')} | ${(alone / block).toFixed(2)} | ${(alone / before).toFixed(2)} |`,
    )
  }
}

function layersOfBlock(machines: number): number {
  return turns.reduce((sum, turn) => sum + layersSeconds(turn, machines), 0)
}

/** Processor seconds of what the model is made of, as functions of shapes. */
async function measured() {
  const options = { bits: 2 }
  const settings = resolveVqOptions(options)
  const cpu = async (work: () => unknown) => {
    const before = process.cpuUsage()
    await work()
    const { user, system } = process.cpuUsage(before)
    return 1e-6 * (user + system)
  }
  const [few, many] = [await panelSeconds(SMALL), await panelSeconds(LARGE)]
  const hessian = correlatedHessian(LARGE, 1)
  const factor = await cpu(() => dampedInverseFactor(hessian, 0.1, LARGE, 'weight'))
  const [a, c] = [gaussianMatrix(LARGE, LARGE, 1), gaussianMatrix(LARGE, LARGE, 2)]
  const blocks = [a, hessian, c].map(({ data }) => wholeBlock(data, LARGE))
  const product = await cpu(() => {
    for (let i = 0; i < 4; i++)
      kernels().gemm('AB', LARGE, LARGE, LARGE, 1, blocks[0], blocks[1], 0, blocks[2])
  })
  const bytes = new Uint8Array(2 ** 28)
  const hashing = await cpu(() => createHash('sha256').update(bytes).digest())
  // what a panel takes is a share that grows with its weights (searches) and one that grows with products
  const perProduct = (many.panel / (ROWS * LARGE) - few.panel / (ROWS * SMALL)) / (LARGE - SMALL)
  const perWeight = many.panel / (ROWS * LARGE) - perProduct * LARGE
  return {
    panel: (rows: number, n: number) => rows * n * (perWeight + perProduct * n),
    pull: (rows: number, n: number, residual: boolean) =>
      ((residual ? 8 : 5) / 8) * many.pull * (rows / ROWS) * (n / LARGE) ** 2,
    factor: (n: number) => factor * (n / LARGE) ** 3,
    multiply: (flops: number) => (product / 4 / (2 * LARGE ** 3)) * flops,
    hash: (count: number) => (hashing / 2 ** 28) * count,
    shown: [
      ['a panel quantized', `${ROWS} x ${SMALL}`, few.panel],
      ['a panel quantized', `${ROWS} x ${LARGE}`, many.panel],
      ['what its drift asks', `${ROWS} x ${LARGE}`, many.pull],
      ['an inverse factor', `${LARGE} x ${LARGE}`, factor],
      ['a product', `${LARGE} x ${LARGE} x ${LARGE}`, product / 4],
      ['SHA-256', '256 MiB', hashing],
    ] as const,
  }

  async function panelSeconds(n: number): Promise<{ panel: number; pull: number }> {
    const [weight, square] = [heavyTailedWeight(ROWS, n, 1), correlatedHessian(n, 1)]
    const factors = shareFactors()
    const half = (seed: number) => ({
      tokens: 1,
      input: gaussianMatrix(n, n, seed),
      residual: gaussianMatrix(ROWS, n, seed + 1),
    })
    const halves = [half(2), half(4)] as const
    const frame = layerFrame(weight, square, settings, 'weight')
    const panel = () => quantizePanel(weight, square, frame, 0, { ...options, factors, tokens: 16 * n })
    const pull = () => driftPulls(weight, square, halves, { factors })
    // the first time compiles, and makes the factors
    await pull()
    await quantizePanel(weight, square, frame, 0, { ...options, factors, refinementRounds: 1 })
    return { panel: await cpu(panel), pull: await cpu(pull) }
  }
}

/** The layers of a turn on so many machines: both stages in whole rounds of panels, factors before each. */
function layersSeconds({ inputs: n, rows, residual }: Turn, machines: number): number {
  const settings = resolveVqOptions({ bits: 2 })
  const panels = rows.flatMap((count) => panelsOf(layoutOf(count, n, settings)))
  const stage = (seconds: (rows: number) => number) => {
    const busy = new Float64Array(machines)
    for (const { firstRow, lastRow } of panels)
      busy[busy.indexOf(Math.min(...busy))] += seconds(lastRow - firstRow)
    return parts.factor(n) + Math.max(...busy)
  }
  const inJobs = stage((count) => parts.pull(count, n, residual)) + stage((count) => parts.panel(count, n))
  return (inJobs + (machines === 1 ? 0 : parts.hash(4 * 3 * n * n))) / cores
}

/**
 * What goes through Redis: Hessian and two drifts of the inputs once in, and out to every machine that has a panel; rows
 * of weights and of residual drift out and in, moves back twice, targets out and in.
 */
function movedBytes({ inputs: n, rows, residual }: Turn, machines: number): number {
  if (machines === 1) return 0
  const settings = resolveVqOptions({ bits: 2 })
  const panels = rows.flatMap((count) => panelsOf(layoutOf(count, n, settings))).length
  const weights = rows.reduce((sum, count) => sum + count * n, 0)
  const perWeight = residual ? 1 + 2 + 2 + 1 : 1 + 1 + 1
  return 4 * (3 * n * n * (1 + Math.min(machines, panels)) + 2 * perWeight * weights)
}

/**
 * Both streams through the layers, the Hessian, and the drift of inputs and of the residual stream, in whole rounds of
 * chunks. gate and up are multiplied thrice on one machine, which has no room for what comes of them, and twice on
 * several, as a chunk has. The machine that adds up hashes all that it sends and gets.
 */
function calibrationSeconds(sequences: number, machines: number): number {
  const chunks = chunksOf(sequences)
  const longest = machines === 1 ? sequences : chunks[0].last * Math.ceil(chunks.length / machines)
  const operations = turns.reduce((sum, { inputs: n, rows, residual, name }) => {
    const weights = rows.reduce((all, count) => all + count * n, 0)
    const times = name === 'gate, up' ? (machines === 1 ? 3 : 2) : 1
    return sum + 2 * 2 * times * weights + n * n + 2 * n * n + (residual ? 2 * rows[0] * n : 0)
  }, 0)
  const hashed = machines === 1 ? 0 : parts.hash(streamBytes(sequences) + sumBytes(sequences))
  return parts.multiply(longest * LENGTH * operations) / cores + hashed
}

/** All chunks through Redis: in by one, and out to another; weights in once, and out to each machine. */
function calibrationBytes(sequences: number, machines: number): number {
  if (machines === 1) return 0
  const taking = Math.min(machines, chunksOf(sequences).length)
  const weights = turns.reduce((sum, { inputs, rows, name }) => {
    // gate and up go out again with down
    const times = name === 'gate, up' ? 2 : 1
    return sum + 4 * times * inputs * rows.reduce((all, count) => all + count, 0)
  }, 0)
  return 2 * (streamBytes(sequences) + sumBytes(sequences)) + weights * (1 + taking)
}

/**
 * Activations of both streams that are sent and come back in the five steps of a block: the residual stream in each, behind
 * two of them too, and what attention gives once each way.
 */
function streamBytes(sequences: number): number {
  return 4 * 2 * (5 + 2 + 2) * sequences * LENGTH * turns[0].inputs
}

/** The sums that chunks come to: half a Hessian, and the drift. */
function sumBytes(sequences: number): number {
  const ofChunk = turns.reduce(
    (sum, { inputs: n, rows, residual }) => sum + 4 * (1.5 * n * n + (residual ? rows[0] * n : 0)),
    0,
  )
  return chunksOf(sequences).length * ofChunk
}
