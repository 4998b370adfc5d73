import { type Block, disposeBlock, forkBlock, openBlock, reloadLinear } from '../../model/decoder/block.js'
import type { Stage } from '../../model/decoder/block-state.js'
import { blockStages } from '../../model/decoder/stages.js'
import type { QuantizedLayer } from '../../packing/quantized-layer.js'
import { type CalibrationStream, copyStream, passStage } from '../calibrate/calibration-stream.js'
import { collectExpertStatistics } from '../calibrate/expert-statistics.js'
import { type BlockStream, collectStatistics, type InputStatistics } from '../calibrate/input-statistics.js'
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
  const task = { work: { ...work, original, deliver }, original, block, streams, seconds }
  try {
    if (work.order.layerOrder === 'sequential') await quantizeInOrder(task)
    else await quantizeTogether(task)
  } finally {
    disposeBlock(block)
    disposeBlock(original)
  }
}

/** Every stage sees what those before it in the block became. */
async function quantizeInOrder({ work, original, block, streams, seconds }: BlockTask): Promise<void> {
  const { present, full } = streams
  const stages = blockStages(block.description)
  const share = 1 / stages.length
  for (const [turn, stage] of stages.entries()) {
    const lap = stopwatch()
    const [start, middle, end] = [turn, turn + STATISTICS_SHARE, turn + 1].map((turns) => turns * share)
    if (quantizesAny(work, stage)) {
      const statistics = await statisticsOf(
        stage,
        { block, stream: present },
        full && { block: original, stream: full },
        work.signal,
        within(work.onProgress, 'collecting Hessians', start, middle),
      )
      seconds.calibration += lap()
      const quantizing = part(work.onProgress, middle, end)
      await quantizeBlock({ ...work, onProgress: quantizing }, sharedBy(stage, statistics))
      seconds.quantization += lap()
    }
    if (isLast(work, turn, stages)) return
    work.onProgress('running the quantized layers', end)
    await passStage(block, stage, present, work.signal)
    if (full) await passStage(original, stage, full, work.signal)
    seconds.calibration += lap()
  }
}

/** All stages see the block in full precision, as the published method does. */
async function quantizeTogether({ work, original, block, streams, seconds }: BlockTask): Promise<void> {
  const { present, full } = streams
  const { onProgress, signal } = work
  const lap = stopwatch()
  const statistics = new Map<string, InputStatistics>()
  const ahead: BlockStream = { block: original, stream: copyStream(present) }
  const stages = blockStages(block.description)
  const share = STATISTICS_SHARE / stages.length
  for (const [turn, stage] of stages.entries()) {
    if (quantizesAny(work, stage)) {
      const onBatch = within(onProgress, 'collecting Hessians', turn * share, (turn + 1) * share)
      const original = full && { block: ahead.block, stream: full }
      const seen = await statisticsOf(stage, ahead, original, work.signal, onBatch)
      for (const { kind } of stage.linears) statistics.set(kind, seen)
    }
    if (isLast(work, turn, stages)) continue
    await passStage(original, stage, ahead.stream, signal)
    if (full) await passStage(original, stage, full, signal)
  }
  seconds.calibration += lap()
  const quantizing = part(onProgress, STATISTICS_SHARE, QUANTIZED_SHARE)
  await quantizeBlock({ ...work, onProgress: quantizing }, statistics)
  seconds.quantization += lap()
  if (work.index + 1 === work.config.blocks.length) return
  for (const stage of stages) {
    onProgress('running the quantized block', QUANTIZED_SHARE)
    await passStage(block, stage, present, signal)
  }
  seconds.calibration += lap()
}

/** What the layers of a stage see. @param full for the drift, which experts have none of */
export function statisticsOf(
  stage: Stage,
  present: BlockStream,
  full: BlockStream | undefined,
  signal: AbortSignal | undefined,
  onBatch: (done: number, total: number) => void = () => {},
): Promise<InputStatistics> {
  if (stage.expert !== undefined) return collectExpertStatistics(stage, present, { onBatch, signal })
  return collectStatistics(stage, present, { full, onBatch, signal })
}

/** Whether nothing of the model comes after a stage that calibration has to see. */
function isLast({ index, config }: BlockWork, turn: number, stages: readonly Stage[]): boolean {
  if (index + 1 < config.blocks.length) return false
  return stages.slice(turn + 1).every(({ linears }) => linears.length === 0)
}

function sharedBy({ linears }: Stage, statistics: InputStatistics): Map<string, InputStatistics> {
  return new Map(linears.map(({ kind }) => [kind, statistics]))
}

function part(onProgress: PartProgress, from: number, to: number): PartProgress {
  return (step, done) => onProgress(step, from + (to - from) * done)
}

function within(onProgress: PartProgress, step: string, from: number, to: number) {
  return (done: number, total: number) => onProgress(step, from + ((to - from) * done) / total)
}
