import { throwIfAborted } from '../../common/errors.js'
import { linearLayers } from '../../model/decoder/linears.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import type { QuantizedLayer } from '../../packing/quantized-layer.js'
import type { Calibration } from '../calibrate/calibration.js'
import { copyStream, inMemory } from '../calibrate/calibration-stream.js'
import { embeddedStream } from '../calibrate/embedded-stream.js'
import { withQuantizedLayers } from '../folders/open-model.js'
import type { LayerBits } from '../mixed/options.js'
import type { PartProgress } from '../progress.js'
import { keepBlock, keptStreams, readLayers, type SavedLayer } from '../resume/kept.js'
import { stopwatch } from '../stopwatch.js'
import { type CalibrationStreams, quantizeCalibratedBlock } from './calibrated-block.js'
import type { ModelRun } from './model-run.js'
import type { PhaseSeconds } from './phase-seconds.js'
import { type OnQuantized, quantizeBlock } from './quantize-block.js'

/** All blocks of a model, to be quantized in turn. */
export interface BlocksWork {
  readonly run: ModelRun
  /** Embedding and head, where they were quantized, by name: the blocks are calibrated behind that embedding. */
  readonly ends: ReadonlyMap<string, QuantizedLayer>
  /** Undefined for a method that needs none. */
  readonly calibration: Calibration | undefined
  readonly layerBits: ReadonlyMap<string, LayerBits> | undefined
  readonly deliver: OnQuantized
  readonly onProgress: PartProgress
  /** Is added to. */
  readonly seconds: PhaseSeconds
}

/** Quantizes the blocks in turn, from the first that the journal does not have. */
export async function quantizeBlocks(work: BlocksWork): Promise<void> {
  const { run, ends, calibration, layerBits, seconds } = work
  const { weights, config, settings, plan, journal, runLayer, runStage, signal } = run
  const { order } = settings
  const lap = stopwatch()
  const done = await deliverKept(work)
  const streams =
    calibration && (await streamsBehind(done, run, ends, calibration, order.driftCorrection > 0))
  seconds.calibration += lap()
  const { length } = config.blocks
  for (let index = done; index < length; index++) {
    const onProgress: PartProgress = (step, share) =>
      work.onProgress(`block ${index + 1} of ${length}: ${step}`, (index + share) / length)
    const layers: SavedLayer[] = []
    const deliver: OnQuantized = async (linear, layer, report) => {
      if (journal) layers.push({ layer, report })
      await work.deliver(linear, layer, report)
    }
    const own = { index, layerBits, runLayer, runStage, deliver, onProgress }
    const block = { weights, config, plan, order, signal, ...own }
    if (streams) await quantizeCalibratedBlock(block, streams, seconds)
    else {
      await quantizeBlock(block, undefined)
      seconds.quantization += lap()
    }
    const isLast = index + 1 === length
    if (journal)
      await keepBlock(journal, layers, isLast ? undefined : streams, {
        ...seconds,
        total: run.elapsed(),
      })
  }
}

/** Delivers the layers of the blocks that are done. @returns how many blocks that are */
async function deliverKept({ run, deliver, onProgress }: BlocksWork): Promise<number> {
  const { journal, config, signal } = run
  const { blocks } = config
  const kept = journal?.state.blocks ?? []
  for (const [index, file] of kept.entries()) {
    throwIfAborted(signal)
    onProgress(`block ${index + 1} of ${blocks.length}: kept from before`, index / blocks.length)
    const linears = linearLayers(config, index)
    for (const { layer, report } of await readLayers(journal!.folder, file)) {
      const linear = linears.find(({ name }) => name === `${report.name}.weight`)!
      await deliver(linear, layer, report)
    }
  }
  return kept.length
}

/** The calibration tokens behind the blocks that are done. */
async function streamsBehind(
  done: number,
  { weights, config, journal, place = inMemory }: ModelRun,
  ends: BlocksWork['ends'],
  calibration: Calibration,
  correctsDrift: boolean,
): Promise<CalibrationStreams | undefined> {
  if (done === config.blocks.length) return undefined
  if (journal && done > 0) return keptStreams(journal, config, calibration, place)
  const open = (source: WeightSource) => embeddedStream(source, config, calibration, place)
  const present = await open(withQuantizedLayers(weights, ends))
  if (!correctsDrift) return { present, full: undefined }
  return { present, full: ends.has(config.embedding.tensor) ? await open(weights) : copyStream(present) }
}
