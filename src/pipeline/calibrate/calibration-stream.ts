import { pacer } from '../../common/event-loop.js'
import { type Matrix, matrix } from '../../common/matrix.js'
import { type Block, withLinears } from '../../model/decoder/block.js'
import type { BlockState, Stage } from '../../model/decoder/block-state.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { assertFiniteHidden } from '../../model/decoder/run-block.js'
import { runStored, type StoredState, type StoredTokens } from './stored-state.js'

/** Tokens that run through a stage at once; fixed, so that sums come out the same everywhere. */
export const TOKENS_PER_BATCH = 2048

/** Bytes of all inputs of down projections at most: more than that is computed twice instead. */
export const GATED_BYTES = 2 ** 30

/** Fields of a state between two stages. */
export type StateFields = readonly (keyof BlockState<unknown>)[]

/** Whole sequences between two stages of a block. */
export interface TokenBatch {
  readonly sequences: number
  /** Whether it lies on the disk. */
  readonly isSpilled?: boolean
  /** Their tokens as the last stage left them. @param fields default: all */
  read(fields?: StateFields): Promise<StoredState>
  /** Replaces the fields that were read by those of `state`; one that it lacks is dropped. */
  write(state: StoredState, fields?: StateFields): Promise<void>
  /** The same tokens, which from now on go their own way. */
  copy(): TokenBatch
}

/** The calibration tokens on their way through a model: sequences of one length between two stages of a block. */
export interface CalibrationStream {
  /** Tokens of a sequence. */
  readonly length: number
  readonly batches: readonly TokenBatch[]
}

/** A batch in memory. */
export function batchInMemory(sequences: number, initial: StoredState): TokenBatch {
  let state = initial
  return {
    sequences,
    read: async () => state,
    async write(next) {
      state = next
    },
    copy: () => batchInMemory(sequences, state),
  }
}

/** Puts a batch in memory or elsewhere, by its number. */
export type PlaceBatch = (
  index: number,
  sequences: number,
  state: BlockState<Matrix>,
) => TokenBatch | Promise<TokenBatch>

/** Puts all batches in memory. */
export const inMemory: PlaceBatch = (_, sequences, state) => batchInMemory(sequences, state)

/** How many sequences each batch has. */
export function batchSizes(sequences: number, length: number): number[] {
  const perBatch = Math.max(1, Math.floor(TOKENS_PER_BATCH / length))
  return Array.from({ length: Math.ceil(sequences / perBatch) }, (_, i) =>
    Math.min(perBatch, sequences - i * perBatch),
  )
}

/** @param hidden the embedded tokens, sequences x length x hiddenSize */
export function calibrationStream(
  { hiddenSize }: DecoderDescription,
  hidden: Float32Array,
  length: number,
): CalibrationStream {
  let start = 0
  const batches = batchSizes(hidden.length / (length * hiddenSize), length).map((count) => {
    const end = start + count * length * hiddenSize
    const residual = matrix(count * length, hiddenSize, hidden.slice(start, end))
    start = end
    return batchInMemory(count, { residual })
  })
  return { length, batches }
}

/** The same tokens in a stream of its own; what they hold is shared until one of the streams moves on. */
export function copyStream({ length, batches }: CalibrationStream): CalibrationStream {
  return { length, batches: batches.map((batch) => batch.copy()) }
}

/** How many tokens there are. */
export function tokensOf({ length, batches }: CalibrationStream): number {
  return batches.reduce((sum, { sequences }) => sum + sequences * length, 0)
}

export type OnBatch = (done: number, total: number) => void

/** Takes the tokens past a stage. @throws NumericError when the output of the block's last stage is not finite */
export async function passStage(
  block: Block,
  stage: Stage,
  stream: CalibrationStream,
  signal?: AbortSignal,
): Promise<void> {
  const { length, batches } = stream
  const isSpilled = batches.some((batch) => batch.isSpilled)
  // one batch is written while the next is computed
  let written: Promise<void> = Promise.resolve()
  const pass = async (tokens: StoredTokens, index: number) => {
    const state = runStored(block, stage, tokens, length, (cols) => !isSpilled && gatedFits(stream, cols))
    if (state.residual) assertFiniteHidden(state.residual.data, block, length)
    await written
    written = batches[index].write(state, stage.reads)
    written.catch(() => {})
  }
  await withLinears(block, stage.uses, () =>
    forEachBatch(stream, signal, pass, { fields: stage.reads }).finally(() => written),
  )
}

/** Tokens, and the block that they pass. */
interface PassingTokens {
  readonly block: Block
  readonly stream: CalibrationStream
}

/** The same in the quantized model, and where drift is asked for in the full one. */
export async function passStageInBoth(
  stage: Stage,
  present: PassingTokens,
  full: PassingTokens | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  await passStage(present.block, stage, present.stream, signal)
  if (full) await passStage(full.block, stage, full.stream, signal)
}

function gatedFits(stream: CalibrationStream, cols: number): boolean {
  return 4 * tokensOf(stream) * cols <= GATED_BYTES
}

/** Which part of the batches {@link forEachBatch} shows. */
export interface EachBatch {
  /** Default: all. */
  readonly fields?: StateFields | undefined
  readonly onBatch?: OnBatch | undefined
}

/** Calls `run` on the batches in turn. */
export async function forEachBatch(
  { batches }: CalibrationStream,
  signal: AbortSignal | undefined,
  run: (tokens: StoredTokens, index: number) => Promise<void> | void,
  { fields, onBatch }: EachBatch = {},
): Promise<void> {
  const pause = pacer(signal)
  let ahead = batches[0]?.read(fields)
  for (const [index, { sequences }] of batches.entries()) {
    await pause()
    const state = await ahead
    // while this batch is computed the next one is read
    ahead = batches[index + 1]?.read(fields)
    ahead?.catch(() => {})
    await run({ sequences, state }, index)
    onBatch?.(index + 1, batches.length)
  }
}
