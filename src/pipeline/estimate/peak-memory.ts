import { threadCount } from '../../kernels/kernels.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { blockLinears, isExpert } from '../../model/decoder/linears.js'
import { blockStages } from '../../model/decoder/stages.js'
import { KEPT_BYTES } from '../../model/passes/divergences.js'
import { GATED_BYTES, TOKENS_PER_BATCH } from '../calibrate/calibration-stream.js'
import { hessianGroups, type TokenWeighting, weighsTokens } from '../calibrate/statistics/token-weights.js'
import { MOST_BITS_ABOVE } from '../mixed/candidates.js'
import { PROBE_TOKENS, TRIAL_TOKENS } from '../mixed/share-budget.js'
import type { PreparedRun } from '../quantize/prepare-run.js'
import { isCalibrated } from '../quantize/quantize-options.js'

/** Bytes that a run holds at its peak, part by part. */
export interface PeakMemory {
  /** Node, this package and the memory of the kernels. */
  readonly process: number
  /** The weights of a block: as they are, and as they become. */
  readonly weights: number
  /** Hessian, drift and factors of a stage, and the layer that is quantized. */
  readonly layer: number
  /** Calibration activations of all streams. */
  readonly activations: number
  /**
   * The phases before the blocks, which hold none of these: text that the model writes, embedding and head, the sensitivity
   * of layers.
   */
  readonly before: number
}

/** Resident memory of a process that has quantized a small model on one thread. */
const PROCESS_BYTES = 300e6
/** What each further thread takes: an engine of its own, and its part of the memory of the kernels. */
export const THREAD_BYTES = 16e6

/** Copies of a layer's weights that are held at most: target, work, quantized, and what drift correction sums. */
const LAYER_COPIES = 6
/**
 * Matrices of the size of a Hessian: it, its factors for the walk and for drift, damped; or the sums of all tokens, of a
 * chunk and of a panel.
 */
const HESSIANS = 5
/** Those of them that are there for each of several Hessians of a stage. */
const SUMS = 3
/** The same for the drift of both halves, while sums become results, or those of a chunk are added. */
const DRIFT_HESSIANS = 4

/** Keys and values of sequences that are written at once. */
const CACHE_BYTES = 2 ** 30
/** The parts of the peak. @param tokens of the calibration; 0 without */
export function peakMemory(prepared: PreparedRun, tokens: number): PeakMemory {
  const { config, settings } = prepared
  const weighting = settings.order.tokenWeights
  const seen = isCalibrated(settings)
    ? { weighting, hasDrift: settings.order.driftCorrection > 0 }
    : undefined
  return {
    process: PROCESS_BYTES + (threadCount() - 1) * THREAD_BYTES,
    weights: Math.max(...config.blocks.map((block) => blockBytes(block))),
    layer: Math.max(...config.blocks.map((block) => stageBytes(block, seen))),
    activations: activationBytes(config, tokens, streamsOf(settings.order)),
    before: Math.max(
      prepared.writesText ? writingBytes(prepared) : 0,
      sharingBytes(prepared),
      endsBytes(prepared),
    ),
  }
}

/** All parts together. */
export function sumOf({ process, weights, layer, activations, before }: PeakMemory): number {
  return process + Math.max(before, weights + layer + activations)
}

/** The whole model, and the cache of what it writes. */
function writingBytes({ checkpoint }: PreparedRun): number {
  let values = 0
  for (const { shape } of checkpoint.tensors.values()) values += shape.reduce((all, size) => all * size, 1)
  return 4 * values + CACHE_BYTES
}

/** Embedding and head by GPTVQ, one after the other. */
function endsBytes({ ends }: PreparedRun): number {
  const bytes = ends.map(({ method, rows, cols }) =>
    method === 'rtn' ? 0 : 4 * (LAYER_COPIES * rows * cols + HESSIANS * cols * cols),
  )
  return Math.max(0, ...bytes)
}

/** Tokens between two blocks, the trials of one block and the sums for their Hessians, the head, and predictions. */
function sharingBytes({ config, settings, plan }: PreparedRun): number {
  if (settings.method !== 'gptvq' || settings.budget === undefined) return 0
  const { hiddenSize, vocabSize, blocks } = config
  const states = 3 * TRIAL_TOKENS * hiddenSize
  const weights = plan.linears.reduce((sum, { rows, cols }) => sum + rows * cols, 0) / blocks.length
  const trials = settings.options.trellisBits ? 1 : Math.floor(settings.budget) + MOST_BITS_ABOVE
  const squares = Math.max(
    ...blocks.map((block) =>
      blockStages(block)
        .flatMap((stage) => hessianGroups(stage, settings.order.tokenWeights))
        .reduce((sum, { linears }) => sum + (linears[0]?.cols ?? 0) ** 2, 0),
    ),
  )
  const predictions = Math.min(KEPT_BYTES, 4 * PROBE_TOKENS * vocabSize)
  return 4 * (states + (2 + trials) * weights + 2 * squares + vocabSize * hiddenSize) + 2 * predictions
}

/** Streams of tokens that a run holds: quantized, full, and one that goes ahead of the quantized blocks. */
export function streamsOf({ driftCorrection, layerOrder }: PreparedRun['settings']['order']): number {
  return 1 + (driftCorrection > 0 ? 1 : 0) + (layerOrder === 'block' ? 1 : 0)
}

type BlockOf = DecoderDescription['blocks'][number]

function blockBytes(block: BlockOf): number {
  const values = (wanted: boolean) =>
    blockLinears(block)
      .filter((linear) => isExpert(block, linear) === wanted)
      .reduce((sum, { rows, cols }) => sum + rows * cols, 0)
  const ofExpert = Math.max(
    0,
    ...blockStages(block).map(({ uses, expert }) => {
      return expert === undefined ? 0 : uses.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
    }),
  )
  return 4 * 2 * (values(false) + ofExpert)
}

/** @param seen how layers look at their inputs; undefined: they do not */
function stageBytes(
  block: BlockOf,
  seen: { readonly weighting: TokenWeighting; readonly hasDrift: boolean } | undefined,
): number {
  const hidden = block.attention.output.rows
  const bytes = blockStages(block).flatMap((stage) => {
    const groups = seen ? hessianGroups(stage, seen.weighting).length : 0
    return stage.linears.map(({ rows, cols }) => {
      const layer = LAYER_COPIES * rows * cols
      if (seen === undefined) return 4 * layer
      const square = cols * cols
      const hessians = (HESSIANS + SUMS * (groups - 1)) * square
      const ofResidual = stage.residualScale === undefined ? 0 : hidden * cols
      const drifts = seen.hasDrift && stage.expert === undefined ? DRIFT_HESSIANS * groups : 0
      // what the layers read of a batch, in both streams, and where tokens have weights, times these
      const inputs = (weighsTokens(stage, seen.weighting) ? 4 : 2) * TOKENS_PER_BATCH * cols
      return 4 * (layer + hessians + drifts * (square + ofResidual) + inputs)
    })
  })
  return Math.max(0, ...bytes)
}

/** A stage's tokens before and behind it, of every stream. */
function activationBytes(
  { blocks, hiddenSize }: DecoderDescription,
  tokens: number,
  streams: number,
): number {
  const widest = Math.max(...blocks.map((block) => stateWidth(block, hiddenSize, tokens)))
  return 4 * tokens * streams * widest
}

/** Values of a token between two stages at most. */
export function stateWidth(block: BlockOf, hiddenSize: number, tokens: number): number {
  const { attention, feedForward } = block
  const inAttention = hiddenSize + attention.output.cols
  if (feedForward.kind === 'routed') return Math.max(inAttention, 3 * hiddenSize + feedForward.experts.length)
  const inner = feedForward.down.cols
  const gated = 4 * tokens * inner <= GATED_BYTES ? inner : 0
  return hiddenSize + Math.max(attention.output.cols, gated)
}
