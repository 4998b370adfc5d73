import { disposeBlock, forkBlock, type LlamaBlock, loadBlock, replaceLinear } from '../model/block.js'
import { type LinearInputGroup, type LinearKind, linearInputGroups } from '../model/linears.js'
import { type CalibrationStream, copyStream, passBlock, passGroup } from './calibration-stream.js'
import { type BlockStream, collectStatistics, type InputStatistics } from './input-statistics.js'
import type { PartProgress } from './progress.js'
import { type BlockWork, type OnQuantized, quantizeBlock } from './quantize-block.js'
import { stopwatch } from './stopwatch.js'

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
  readonly original: LlamaBlock
  /** The same block, whose weights become the quantized ones. */
  readonly block: LlamaBlock
  readonly streams: CalibrationStreams
  readonly seconds: { calibration: number; quantization: number }
}

/** Share of a group's work that its statistics take; for progress only. */
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
  const original = await loadBlock(work.weights, work.config, work.index)
  const block = forkBlock(original)
  const deliver: OnQuantized = async (linear, layer, report, values) => {
    replaceLinear(block, linear.kind, values.data)
    await work.deliver(linear, layer, report, values)
  }
  seconds.calibration += lap()
  const task = { work: { ...work, deliver }, original, block, streams, seconds }
  try {
    if (work.settings.order.layerOrder === 'sequential') await quantizeInOrder(task)
    else await quantizeTogether(task)
  } finally {
    disposeBlock(block)
    disposeBlock(original)
  }
}

/** Every group of layers sees what those before it in the block became. */
async function quantizeInOrder({ work, original, block, streams, seconds }: BlockTask): Promise<void> {
  const { present, full } = streams
  const share = 1 / linearInputGroups.length
  for (const [turn, group] of linearInputGroups.entries()) {
    const lap = stopwatch()
    const [start, middle, end] = [turn, turn + STATISTICS_SHARE, turn + 1].map((turns) => turns * share)
    const statistics = await collectStatistics(
      group,
      { block, stream: present },
      {
        full: full && { block: original, stream: full },
        onBatch: within(work.onProgress, 'collecting Hessians', start, middle),
        signal: work.signal,
      },
    )
    seconds.calibration += lap()
    await quantizeBlock(
      { ...work, onProgress: part(work.onProgress, middle, end) },
      sharedBy(group, statistics),
    )
    seconds.quantization += lap()
    if (isLastGroup(work, group)) return
    work.onProgress('running the quantized layers', end)
    await passGroup(block, group, present, work.signal)
    if (full) await passGroup(original, group, full, work.signal)
    seconds.calibration += lap()
  }
}

/** All groups see the block in full precision, as the published method does. */
async function quantizeTogether({ work, original, block, streams, seconds }: BlockTask): Promise<void> {
  const { present, full } = streams
  const { onProgress, signal } = work
  const lap = stopwatch()
  const statistics = new Map<LinearKind, InputStatistics>()
  const ahead: BlockStream = { block: original, stream: copyStream(present) }
  const share = STATISTICS_SHARE / linearInputGroups.length
  for (const [turn, group] of linearInputGroups.entries()) {
    const seen = await collectStatistics(group, ahead, {
      full: full && { block: original, stream: full },
      onBatch: within(onProgress, 'collecting Hessians', turn * share, (turn + 1) * share),
      signal,
    })
    for (const kind of group) statistics.set(kind, seen)
    if (isLastGroup(work, group)) continue
    await passGroup(original, group, ahead.stream, signal)
    if (full) await passGroup(original, group, full, signal)
  }
  seconds.calibration += lap()
  const quantizing = part(onProgress, STATISTICS_SHARE, QUANTIZED_SHARE)
  await quantizeBlock({ ...work, onProgress: quantizing }, statistics)
  seconds.quantization += lap()
  if (work.index + 1 === work.config.layers) return
  await passBlock(
    block,
    present,
    within(onProgress, 'running the quantized block', QUANTIZED_SHARE, 1),
    signal,
  )
  seconds.calibration += lap()
}

/** Whether nothing of the model comes after `group` that calibration has to see. */
function isLastGroup({ index, config }: BlockWork, group: LinearInputGroup): boolean {
  return index + 1 === config.layers && group === linearInputGroups.at(-1)
}

function sharedBy(group: LinearInputGroup, statistics: InputStatistics): Map<LinearKind, InputStatistics> {
  return new Map(group.map((kind) => [kind, statistics]))
}

function part(onProgress: PartProgress, from: number, to: number): PartProgress {
  return (step, done) => onProgress(step, from + (to - from) * done)
}

function within(onProgress: PartProgress, step: string, from: number, to: number) {
  return (done: number, total: number) => onProgress(step, from + ((to - from) * done) / total)
}
