import { pacer } from '../event-loop.js'
import type { LlamaBlock } from '../model/block.js'
import { passStage, type WaitingTokens } from '../model/block-stages.js'
import type { LlamaConfig } from '../model/config.js'
import type { LinearInputGroup } from '../model/linears.js'
import { runBlock } from '../model/run-block.js'

/** Tokens that run through a block at once. */
const TOKENS_PER_BATCH = 2048

/** Bytes of all `gated` at most: more than that is computed twice instead. */
const GATED_BYTES = 2 ** 30

/** The calibration tokens on their way through a model: sequences of one length in front of a group of linear layers. */
export interface CalibrationStream extends WaitingTokens {
  readonly config: LlamaConfig
}

/** @param hidden the embedded tokens, sequences x length x hiddenSize; overwritten as they move on */
export function calibrationStream(
  config: LlamaConfig,
  hidden: Float32Array,
  length: number,
): CalibrationStream {
  const tokens = hidden.length / config.hiddenSize
  const gated = tokens * config.intermediateSize
  return {
    config,
    hidden,
    attended: new Float32Array(tokens * config.heads * config.headDim),
    gated: 4 * gated <= GATED_BYTES ? new Float32Array(gated) : undefined,
    sequences: tokens / length,
    length,
  }
}

/** The same tokens in front of a block, with arrays of their own. */
export function copyStream(stream: CalibrationStream): CalibrationStream {
  return calibrationStream(stream.config, stream.hidden.slice(), stream.length)
}

export type OnBatch = (done: number, total: number) => void

/** Takes the tokens past the layers of a group. */
export async function passGroup(
  block: LlamaBlock,
  group: LinearInputGroup,
  stream: CalibrationStream,
  signal?: AbortSignal,
): Promise<void> {
  await forEachBatch(
    stream,
    () => {},
    signal,
    (first, count) => passStage(block, group, batchOf(stream, first, count)),
  )
}

/** Takes the tokens from the front of a block to its end. */
export async function passBlock(
  block: LlamaBlock,
  stream: CalibrationStream,
  onBatch: OnBatch = () => {},
  signal?: AbortSignal,
): Promise<void> {
  await forEachBatch(stream, onBatch, signal, async (first, count) => {
    const { hidden, length } = batchOf(stream, first, count)
    hidden.set(await runBlock(block, hidden, count, length))
  })
}

/** `count` sequences of a stream from number `first` on, over the same arrays. */
export function batchOf(stream: CalibrationStream, first: number, count: number): WaitingTokens {
  const { config, hidden, attended, gated, length } = stream
  const part = (data: Float32Array, width: number) =>
    data.subarray(first * length * width, (first + count) * length * width)
  return {
    sequences: count,
    length,
    hidden: part(hidden, config.hiddenSize),
    attended: part(attended, config.heads * config.headDim),
    gated: gated && part(gated, config.intermediateSize),
  }
}

/** Calls `run` on batches of whole sequences in turn. */
export async function forEachBatch(
  { sequences, length }: CalibrationStream,
  onBatch: OnBatch,
  signal: AbortSignal | undefined,
  run: (first: number, count: number) => Promise<void> | void,
): Promise<void> {
  const perBatch = Math.max(1, Math.floor(TOKENS_PER_BATCH / length))
  const pause = pacer(signal)
  for (let first = 0; first < sequences; first += perBatch) {
    await pause()
    const count = Math.min(perBatch, sequences - first)
    await run(first, count)
    onBatch(first + count, sequences)
  }
}
