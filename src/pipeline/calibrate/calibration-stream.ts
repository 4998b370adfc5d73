import { pacer } from '../../event-loop.js'
import type { Matrix } from '../../matrix.js'
import { matrix } from '../../matrix.js'
import { type Block, withLinears } from '../../model/decoder/block.js'
import type { BlockState, Stage } from '../../model/decoder/block-state.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { assertFiniteHidden } from '../../model/decoder/run-block.js'
import { runStored } from './stored-state.js'

/** Tokens that run through a stage at once; fixed, so that sums come out the same everywhere. */
const TOKENS_PER_BATCH = 2048

/** Bytes of all inputs of down projections at most: more than that is computed twice instead. */
const GATED_BYTES = 2 ** 30

/** Whole sequences between two stages of a block. */
export interface TokenBatch {
  readonly sequences: number
  /** Their tokens as the last stage left them. */
  state: BlockState<Matrix>
}

/** The calibration tokens on their way through a model: sequences of one length between two stages of a block. */
export interface CalibrationStream {
  /** Tokens of a sequence. */
  readonly length: number
  readonly batches: readonly TokenBatch[]
}

/** @param hidden the embedded tokens, sequences x length x hiddenSize */
export function calibrationStream(
  { hiddenSize }: DecoderDescription,
  hidden: Float32Array,
  length: number,
): CalibrationStream {
  const sequences = hidden.length / (length * hiddenSize)
  const perBatch = Math.max(1, Math.floor(TOKENS_PER_BATCH / length))
  const batches = Array.from({ length: Math.ceil(sequences / perBatch) }, (_, i): TokenBatch => {
    const count = Math.min(perBatch, sequences - i * perBatch)
    const start = i * perBatch * length * hiddenSize
    const values = hidden.slice(start, start + count * length * hiddenSize)
    return { sequences: count, state: { residual: matrix(count * length, hiddenSize, values) } }
  })
  return { length, batches }
}

/** The same tokens in a stream of its own; what they hold is shared until one of the streams moves on. */
export function copyStream({ length, batches }: CalibrationStream): CalibrationStream {
  return { length, batches: batches.map((batch) => ({ ...batch })) }
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
  await withLinears(block, stage.uses, () =>
    forEachBatch(stream, signal, (batch) => {
      const { length } = stream
      batch.state = runStored(block, stage, batch, length, (cols) => gatedFits(stream, cols))
      assertFiniteHidden(batch.state.residual.data, block, length)
    }),
  )
}

function gatedFits(stream: CalibrationStream, cols: number): boolean {
  return 4 * tokensOf(stream) * cols <= GATED_BYTES
}

/** Calls `run` on the batches in turn. */
export async function forEachBatch(
  { batches }: CalibrationStream,
  signal: AbortSignal | undefined,
  run: (batch: TokenBatch, index: number) => Promise<void> | void,
  onBatch: OnBatch = () => {},
): Promise<void> {
  const pause = pacer(signal)
  for (const [index, batch] of batches.entries()) {
    await pause()
    await run(batch, index)
    onBatch(index + 1, batches.length)
  }
}
