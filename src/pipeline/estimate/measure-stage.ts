import { turnOfEventLoop } from '../../common/event-loop.js'
import { wholeBlock } from '../../kernels/contract.js'
import { kernels } from '../../kernels/kernels.js'
import type { Block } from '../../model/decoder/block.js'
import type { Stage } from '../../model/decoder/block-state.js'
import { blockStages } from '../../model/decoder/stages.js'
import { type CalibrationStream, copyStream, passStage, tokensOf } from '../calibrate/calibration-stream.js'
import { chunksOf } from '../calibrate/chunks.js'
import { collectExpertStatistics } from '../calibrate/statistics/expert-statistics.js'
import { stageTotals, sumChunks } from '../calibrate/statistics/input-statistics.js'
import { type StageStatistics, sharedBy } from '../calibrate/statistics/stage-sums.js'
import { hessianGroups, type TokenWeighting } from '../calibrate/statistics/token-weights.js'
import { stopwatch } from '../stopwatch.js'

/** How many tokens the real run has, and how its streams go. */
export interface CalibrationPlan {
  readonly tokens: number
  /** Of a sequence. */
  readonly length: number
  readonly batches: number
  /** How often a stage is run: for the quantized model, the full one, and ahead of the block. */
  readonly passes: number
  /** Of matrix products; Infinity where measured batches are as large as the real ones, so that none are added. */
  readonly flopsPerSecond: number
}

/** A stage, and some tokens in front of it: a batch or two, perhaps of fewer tokens than the real ones. */
export interface StageToMeasure {
  readonly block: Block
  readonly stage: Stage
  readonly stream: CalibrationStream
  readonly plan: CalibrationPlan
}

/** Threads that are only being started are there after so many seconds. */
const STARTING_SECONDS = 0.5

/** Operations per second of the products of a forward pass, once all threads take part. */
export async function productSpeed(): Promise<number> {
  const [m, n, k] = [512, 2048, 2048]
  const [a, b, c] = [m * k, n * k, m * n].map((size) => new Float32Array(size).fill(1e-3))
  const lap = stopwatch()
  let [least, all] = [Number.POSITIVE_INFINITY, 0]
  for (let round = 0; round < 3 || all < STARTING_SECONDS; round++) {
    await turnOfEventLoop()
    lap()
    kernels().gemm('ABt', m, n, k, 1, wholeBlock(a, k), wholeBlock(b, k), 0, wholeBlock(c, n))
    const seconds = lap()
    least = Math.min(least, seconds)
    all += seconds
  }
  return (2 * m * n * k) / least
}

/**
 * What looking at a stage's inputs takes for all tokens: a chunk and what follows the last one as they were measured, and of
 * tokens that measured batches lack no more than their products, since the rest of a batch does not grow with them.
 *
 * @param isDrifting whether the full model is looked at too
 * @returns what was found of the inputs, and the seconds
 */
export async function measureCollecting(
  { block, stage, stream, plan }: StageToMeasure,
  { isDrifting, tokenWeights }: { readonly isDrifting: boolean; readonly tokenWeights: TokenWeighting },
): Promise<{ inputs: StageStatistics; seconds: number }> {
  const { batches } = stream
  const { cols } = stage.linears[0]
  const lap = stopwatch()
  if (stage.expert !== undefined) {
    const own = await collectExpertStatistics(stage, { block, stream })
    const inputs = sharedBy(stage.linears, own)
    const routed = own.tokens / tokensOf(stream)
    const scale = plan.batches / batches.length
    return {
      inputs,
      seconds: scale * lap() + (lackingTokens(stream, plan) * routed * cols ** 2) / plan.flopsPerSecond,
    }
  }
  const full = isDrifting ? { block, stream: copyStream(stream) } : undefined
  const total = stageTotals(stage, tokenWeights)
  const ofBatches: number[] = []
  const chunks = chunksOf(batches.length)
  const onBatch = () => ofBatches.push(lap())
  const options = { full, tokenWeights, chunks, firstSequence: 0, onBatch }
  await sumChunks(stage, { block, stream }, options, total.add)
  const ofChunk = ofBatches.reduce((sum, seconds) => sum + seconds, lap())
  const inputs = total.statistics()
  const atEnd = lap()
  const chunkCount = chunksOf(plan.batches).length
  // fewer than none where the last chunk is a short one
  const others = plan.batches - chunkCount * batches.length
  const hidden = stage.residualScale === undefined ? 0 : block.description.attention.output.rows
  const ofGroup = cols ** 2 + (isDrifting ? 2 * cols * (cols + hidden) : 0)
  const flops = hessianGroups(stage, tokenWeights).length * ofGroup
  const seconds = atEnd + chunkCount * ofChunk + others * Math.min(...ofBatches)
  return { inputs, seconds: seconds + (lackingTokens(stream, plan) * flops) / plan.flopsPerSecond }
}

/** What taking all tokens past a stage once takes. @param routed share of the tokens that it sees */
export async function measurePassing(
  { block, stage, stream, plan }: StageToMeasure,
  routed: number,
): Promise<number> {
  const { batches } = stream
  const lap = stopwatch()
  await passStage(block, stage, stream)
  const seconds = (plan.batches / batches.length) * lap()
  const { heads, headDim } = block.description.attention
  // a token sees half of its sequence, once for scores and once for values
  const attention = blockStages(block.description)[0] === stage ? 2 * plan.length * heads * headDim : 0
  const weights = stage.uses.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
  return seconds + (lackingTokens(stream, plan) * (attention + routed * 2 * weights)) / plan.flopsPerSecond
}

/** Tokens that all real batches have more than the measured one. */
function lackingTokens(
  { length, batches: [{ sequences }] }: CalibrationStream,
  plan: CalibrationPlan,
): number {
  return Math.max(0, plan.tokens - plan.batches * sequences * length)
}
