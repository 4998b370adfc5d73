import { type Block, disposeBlock, forkBlock, openBlock, reloadLinear } from '../../model/decoder/block.js'
import type { Stage } from '../../model/decoder/block-state.js'
import { blockStages } from '../../model/decoder/stages.js'
import type { QuantizedLayer } from '../../packing/quantized-layer.js'
import { type CalibrationStream, copyStream } from '../calibrate/calibration-stream.js'
import { type StageStep, stepHere } from '../calibrate/stage-runner.js'
import type { InputStatistics } from '../calibrate/statistics/stage-sums.js'
import { withQuantizedLayers } from '../folders/open-model.js'
import type { PartProgress } from '../progress.js'
import { stopwatch } from '../stopwatch.js'
import { type BlockWork, type OnQuantized, quantizeBlock, quantizesAny } from './quantize-block.js'

/** The calibration tokens on their way through the model. */
export interface CalibrationStreams {
  /** As the quantized blocks so far left them. */
  readonly present: CalibrationStream
  /** As the blocks in full precision left them; only where drift is corrected. */
  readonly full: CalibrationStream | undefined
}

/** How one block's layers and their statistics follow each other. */
interface BlockTask {
  readonly work: BlockWork
  readonly original: Block
  /** The same block, whose weights become the quantized ones. */
  readonly block: Block
  /** Its quantized layers so far, by the names of their weights. */
  readonly layers: ReadonlyMap<string, QuantizedLayer>
  readonly streams: CalibrationStreams
  readonly seconds: { calibration: number; quantization: number }
}

/** Share of a stage's work that its statistics take; for progress only. */
const STATISTICS_SHARE = 0.25
/** Share of a block's work after which it has only to be run; for progress only. */
const QUANTIZED_SHARE = 0.9

/** Quantizes one block on the activations that reach it, then lets them flow through what it became. */
export async function quantizeCalibratedBlock(
  work: BlockWork,
  streams: CalibrationStreams,
  seconds: { calibration: number; quantization: number },
): Promise<void> {
  const lap = stopwatch()
  const description = work.config.blocks[work.index]
  const original = await openBlock(work.weights, description)
  const layers = new Map<string, QuantizedLayer>()
  const block = forkBlock(original, withQuantizedLayers(work.weights, layers))
  const deliver: OnQuantized = async (linear, layer, report) => {
    layers.set(linear.name, layer)
    await reloadLinear(block, linear.kind)
    await work.deliver(linear, layer, report)
  }
  seconds.calibration += lap()
  const task = { work: { ...work, original, deliver }, original, block, layers, streams, seconds }
  try {
    if (work.order.layerOrder === 'sequential') await quantizeInOrder(task)
    else await quantizeTogether(task)
  } finally {
    disposeBlock(block)
    disposeBlock(original)
  }
}

/** Every stage sees what those before it in the block became. */
async function quantizeInOrder(task: BlockTask): Promise<void> {
  const { work, original, block, layers, streams, seconds } = task
  const { present, full } = streams
  const stages = blockStages(block.description)
  const share = 1 / stages.length
  const lap = stopwatch()
  const tokens = { block, layers, stream: present, full: full && { block: original, stream: full } }
  let passing: Stage | undefined
  for (const [turn, stage] of stages.entries()) {
    const [start, middle, end] = [turn, turn + STATISTICS_SHARE, turn + 1].map((turns) => turns * share)
    const collecting = quantizesAny(work, stage) ? stage : undefined
    if (passing) work.onProgress('running the quantized layers', start)
    const onBatch = within(work.onProgress, 'collecting Hessians', start, middle)
    const statistics = await takeStep(work, { ...tokens, passing, collecting, onBatch })
    seconds.calibration += lap()
    if (statistics) {
      const quantizing = part(work.onProgress, middle, end)
      await quantizeBlock({ ...work, onProgress: quantizing }, statistics)
      seconds.quantization += lap()
    }
    if (isLast(work, turn, stages)) return
    passing = stage
  }
  work.onProgress('running the quantized layers', 1)
  await takeStep(work, { ...tokens, passing, collecting: undefined })
  seconds.calibration += lap()
}

/** All stages see the block in full precision, as the published method does. */
async function quantizeTogether(task: BlockTask): Promise<void> {
  const { work, original, block, layers, streams, seconds } = task
  const { present, full } = streams
  const { onProgress } = work
  const lap = stopwatch()
  const statistics = new Map<string, InputStatistics>()
  const stages = blockStages(block.description)
  const share = STATISTICS_SHARE / stages.length
  const ahead = {
    block: original,
    layers: new Map(),
    stream: copyStream(present),
    full: full && { block: original, stream: full },
  }
  let passing: Stage | undefined
  for (const [turn, stage] of stages.entries()) {
    const collecting = quantizesAny(work, stage) ? stage : undefined
    const onBatch = within(onProgress, 'collecting Hessians', turn * share, (turn + 1) * share)
    const seen = await takeStep(work, { ...ahead, passing, collecting, onBatch })
    for (const [kind, own] of seen ?? []) statistics.set(kind, own)
    passing = isLast(work, turn, stages) ? undefined : stage
  }
  await takeStep(work, { ...ahead, passing, collecting: undefined })
  seconds.calibration += lap()
  const quantizing = part(onProgress, STATISTICS_SHARE, QUANTIZED_SHARE)
  await quantizeBlock({ ...work, onProgress: quantizing }, statistics)
  seconds.quantization += lap()
  if (work.index + 1 === work.config.blocks.length) return
  const behind = { block, layers, stream: present, full: undefined, collecting: undefined }
  for (const passing of stages) {
    onProgress('running the quantized block', QUANTIZED_SHARE)
    await takeStep(work, { ...behind, passing })
  }
  seconds.calibration += lap()
}

function takeStep(
  { runStage = stepHere, order, signal }: BlockWork,
  step: Omit<StageStep, 'tokenWeights' | 'signal'>,
) {
  return runStage({ ...step, tokenWeights: order.tokenWeights, signal })
}

/** Whether nothing of the model comes after a stage that calibration has to see. */
function isLast({ index, config }: BlockWork, turn: number, stages: readonly Stage[]): boolean {
  if (index + 1 < config.blocks.length) return false
  return stages.slice(turn + 1).every(({ linears }) => linears.length === 0)
}

function part(onProgress: PartProgress, from: number, to: number): PartProgress {
  return (step, done) => onProgress(step, from + (to - from) * done)
}

function within(onProgress: PartProgress, step: string, from: number, to: number) {
  return (done: number, total: number) => onProgress(step, from + ((to - from) * done) / total)
}
