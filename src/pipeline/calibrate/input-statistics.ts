import { NumericError } from '../../errors.js'
import { pacer } from '../../event-loop.js'
import { type Matrix, reusedRoom } from '../../matrix.js'
import { type Block, withLinears } from '../../model/decoder/block.js'
import type { Stage } from '../../model/decoder/block-state.js'
import { type CalibrationStream, forEachBatch, type OnBatch } from './calibration-stream.js'
import { type Chunk, chunksOf, runsOf } from './chunks.js'
import {
  type InputStatistics,
  type SeenTokens,
  type StageSums,
  stageSummer,
  stageTotal,
} from './stage-sums.js'
import { type StoredTokens, storedInput } from './stored-state.js'

/** A block and the tokens in front of one of its stages. */
export interface BlockStream {
  readonly block: Block
  readonly stream: CalibrationStream
}

export interface StatisticsOptions {
  /** The same tokens in the full model: asks for the drift. */
  readonly full?: BlockStream | undefined
  readonly onBatch?: OnBatch
  readonly signal?: AbortSignal | undefined
}

/**
 * The statistics of the input that the layers of a stage share. The layers of an expert have no drift: other tokens are
 * routed to it in the full model.
 *
 * @throws NumericError naming the layers when an activation is NaN or infinite
 */
export async function collectStatistics(
  stage: Stage,
  present: BlockStream,
  options: StatisticsOptions = {},
): Promise<InputStatistics> {
  const total = stageTotal()
  const chunks = chunksOf(present.stream.batches.length)
  await sumChunks(stage, present, { ...options, chunks, firstSequence: 0 }, total.add)
  return namingLayers(present.block, stage, async () => total.statistics(stage.residualScale ?? 1))
}

/** How {@link sumChunks} goes through a stream. */
export interface ChunkedStatistics extends StatisticsOptions {
  /** Of the stream's batches. */
  readonly chunks: readonly Chunk[]
  /** The stream's first sequence, counted over all tokens. */
  readonly firstSequence: number
}

/** Sums what the layers of a stage read, and gives the sums of each chunk. @throws as {@link collectStatistics} */
export async function sumChunks(
  stage: Stage,
  { block, stream }: BlockStream,
  { full, chunks, firstSequence, onBatch, signal }: ChunkedStatistics,
  onSums: (sums: StageSums) => void,
): Promise<void> {
  const { length } = stream
  const pause = pacer(signal)
  const rooms = { present: reusedRoom(), full: reusedRoom() }
  const seenBy = async (
    block: Block,
    { sequences, state }: StoredTokens,
    room: (size: number) => Float32Array,
  ): Promise<SeenTokens> => {
    await pause()
    const input: Matrix = storedInput(block, stage, { sequences, state }, length, room)
    return { input, residual: stage.residualScale === undefined ? undefined : state.residual }
  }
  const { batches } = stream
  const isOnly = firstSequence === 0 && batches.length === 1 && batches[0].sequences === 1
  let sequence = firstSequence
  let summer = stageSummer()
  const visit = async (batch: StoredTokens, index: number) => {
    const { sequences } = batch
    const state = await full?.stream.batches[index].read(stage.reads)
    const original = full && state && (await seenBy(full.block, { sequences, state }, rooms.full))
    const present = await seenBy(block, batch, rooms.present)
    await pause()
    const chunk = chunks.find(({ last }) => index < last)!
    const runs = runsOf(chunk, { sequence, length, isOnly }, present.input.rows)
    await summer.see(present, original, runs, pause)
    sequence += sequences
    if (index + 1 < chunk.last) return
    onSums(summer.sums())
    summer = stageSummer()
  }
  const needed = stage.uses.filter((linear) => !stage.linears.includes(linear))
  await namingLayers(block, stage, () =>
    withLinears(block, needed, () =>
      withLinears(full?.block ?? block, needed, () =>
        forEachBatch(stream, signal, visit, { fields: stage.reads, onBatch }),
      ),
    ),
  )
}

/** Does something with a stage's tokens; its errors name the layers. */
export async function namingLayers<T>(
  { description }: Block,
  { linears }: Stage,
  use: () => Promise<T>,
): Promise<T> {
  try {
    return await use()
  } catch (error) {
    if (!(error instanceof NumericError)) throw error
    const kinds = linears.map(({ kind }) => kind).join(', ')
    throw new NumericError(`input of ${description.prefix}${kinds}: ${error.message}`)
  }
}
