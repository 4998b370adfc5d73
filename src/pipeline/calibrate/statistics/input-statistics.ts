import { NumericError } from '../../../common/errors.js'
import { pacer } from '../../../common/event-loop.js'
import { type Matrix, reusedRoom } from '../../../common/matrix.js'
import { type Block, withLinears } from '../../../model/decoder/block.js'
import type { Stage } from '../../../model/decoder/block-state.js'
import { type CalibrationStream, forEachBatch, type OnBatch } from '../calibration-stream.js'
import { type Chunk, chunksOf, runsOf } from '../chunks.js'
import { type StoredTokens, storedInput } from '../stored-state.js'
import {
  type SeenTokens,
  type StageStatistics,
  type StageSums,
  sharedBy,
  stageSummer,
  stageTotal,
} from './stage-sums.js'
import {
  hessianGroups,
  neededFor,
  type TokenWeighting,
  tokenWeights as weightsFor,
  weightTokens,
} from './token-weights.js'

/** A block and the tokens in front of one of its stages. */
export interface BlockStream {
  readonly block: Block
  readonly stream: CalibrationStream
}

export interface StatisticsOptions {
  /** The same tokens in the full model: asks for the drift. */
  readonly full?: BlockStream | undefined
  /** Default `'equal'`. */
  readonly tokenWeights?: TokenWeighting
  readonly onBatch?: OnBatch
  readonly signal?: AbortSignal | undefined
}

/**
 * The statistics of what the layers of a stage read, by their kinds; layers that share a Hessian share them. The layers of
 * an expert have no drift: other tokens are routed to it in the full model.
 *
 * @throws NumericError naming the layers when an activation is NaN or infinite
 */
export async function collectStatistics(
  stage: Stage,
  present: BlockStream,
  options: StatisticsOptions = {},
): Promise<StageStatistics> {
  const total = stageTotals(stage, options.tokenWeights)
  const chunks = chunksOf(present.stream.batches.length)
  await sumChunks(stage, present, { ...options, chunks, firstSequence: 0 }, total.add)
  return namingLayers(present.block, stage, async () => total.statistics())
}

/** Adds the sums of chunks, of each group of a stage's layers. */
export function stageTotals(stage: Stage, weighting: TokenWeighting = 'equal') {
  const groups = hessianGroups(stage, weighting)
  const totals = groups.map(stageTotal)
  return {
    add(sums: readonly StageSums[]): void {
      for (const [i, total] of totals.entries()) total.add(sums[i])
    },
    statistics(): StageStatistics {
      return new Map(
        groups.flatMap(({ linears }, i) => [
          ...sharedBy(linears, totals[i].statistics(stage.residualScale ?? 1)),
        ]),
      )
    },
  }
}

type Room = ReturnType<typeof reusedRoom>

/** How {@link sumChunks} goes through a stream. */
export interface ChunkedStatistics extends StatisticsOptions {
  /** Of the stream's batches. */
  readonly chunks: readonly Chunk[]
  /** The stream's first sequence, counted over all tokens. */
  readonly firstSequence: number
}

/** Sums what the layers of a stage read, and gives each chunk's sums of each group. @throws as {@link collectStatistics} */
export async function sumChunks(
  stage: Stage,
  { block, stream }: BlockStream,
  { full, tokenWeights = 'equal', chunks, firstSequence, onBatch, signal }: ChunkedStatistics,
  onSums: (sums: readonly StageSums[]) => void,
): Promise<void> {
  const { length } = stream
  const pause = pacer(signal)
  const groups = hessianGroups(stage, tokenWeights)
  const rooms = { present: reusedRoom(), full: reusedRoom() }
  const weightedRooms = { present: reusedRoom(), full: reusedRoom() }
  const seenBy = async (
    block: Block,
    { sequences, state }: StoredTokens,
    room: Room,
  ): Promise<SeenTokens> => {
    await pause()
    const input: Matrix = storedInput(block, stage, { sequences, state }, length, room)
    return { input, residual: stage.residualScale === undefined ? undefined : state.residual }
  }
  const { batches } = stream
  const isOnly = firstSequence === 0 && batches.length === 1 && batches[0].sequences === 1
  let sequence = firstSequence
  let summers = groups.map(stageSummer)
  const visit = async (batch: StoredTokens, index: number) => {
    const { sequences } = batch
    const state = await full?.stream.batches[index].read(stage.reads)
    const original = full && state && (await seenBy(full.block, { sequences, state }, rooms.full))
    const present = await seenBy(block, batch, rooms.present)
    await pause()
    const chunk = chunks.find(({ last }) => index < last)!
    const runs = runsOf(chunk, { sequence, length, isOnly }, present.input.rows)
    const weights = weightsFor(block, stage, groups, present.input, length)
    for (const [i, summer] of summers.entries()) {
      const weighted = ({ input, residual }: SeenTokens, room: Room) => ({
        input: weightTokens(input, weights[i], room),
        residual,
      })
      const own = weighted(present, weightedRooms.present)
      const other = original && weighted(original, weightedRooms.full)
      await summer.see(own, other, runs, pause)
    }
    sequence += sequences
    if (index + 1 < chunk.last) return
    onSums(summers.map((summer) => summer.sums()))
    summers = groups.map(stageSummer)
  }
  const needed = neededFor(stage, tokenWeights)
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
