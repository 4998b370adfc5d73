import type * as tf from '@tensorflow/tfjs-core'
import { NumericError } from '../errors.js'
import { pacer } from '../event-loop.js'
import { HessianAccumulator } from '../hessian.js'
import { type Matrix, matrix } from '../matrix.js'
import { type LlamaBlock, runBlock, visitInputs } from '../model/block.js'
import { blockPrefix, type LinearKind } from '../model/linears.js'

/** Tokens that run through a block at once. */
const TOKENS_PER_BATCH = 2048

/** The activations between two blocks: sequences of one length, each length x hiddenSize, row-major. */
export interface HiddenStates {
  readonly data: Float32Array
  readonly sequences: number
  readonly length: number
  readonly hiddenSize: number
}

type OnBatch = (done: number, total: number) => void

/**
 * The Hessians of a block's linear layers on the inputs that flow through it; layers with the same input share one.
 *
 * @throws NumericError naming the layer when an activation is NaN or infinite
 */
export async function collectHessians(
  block: LlamaBlock,
  hidden: HiddenStates,
  onBatch: OnBatch,
  signal?: AbortSignal,
): Promise<Map<LinearKind, Matrix>> {
  const accumulators = new Map<readonly LinearKind[], HessianAccumulator>()
  const listen = (kinds: readonly LinearKind[], input: tf.Tensor2D) => {
    const [tokens, inFeatures] = input.shape
    const accumulator = accumulators.get(kinds) ?? new HessianAccumulator(inFeatures)
    accumulators.set(kinds, accumulator)
    try {
      accumulator.add(matrix(tokens, inFeatures, input.dataSync<'float32'>()))
    } catch (error) {
      if (!(error instanceof NumericError)) throw error
      throw new NumericError(`input of ${blockPrefix(block.index)}${kinds.join(', ')}: ${error.message}`)
    }
  }
  await forEachBatch(hidden, onBatch, signal, async (batch, sequences) => {
    visitInputs(block, batch, sequences, hidden.length, listen)
  })
  const hessians = new Map<LinearKind, Matrix>()
  for (const [kinds, accumulator] of accumulators) {
    const hessian = accumulator.hessian()
    for (const kind of kinds) hessians.set(kind, hessian)
  }
  return hessians
}

/** Runs a block over all sequences and overwrites `hidden` with its output. */
export async function advance(
  block: LlamaBlock,
  hidden: HiddenStates,
  onBatch: OnBatch,
  signal?: AbortSignal,
): Promise<void> {
  await forEachBatch(hidden, onBatch, signal, async (batch, sequences) => {
    batch.set(await runBlock(block, batch, sequences, hidden.length))
  })
}

async function forEachBatch(
  { data, sequences, length, hiddenSize }: HiddenStates,
  onBatch: OnBatch,
  signal: AbortSignal | undefined,
  run: (batch: Float32Array, sequences: number) => Promise<void>,
): Promise<void> {
  const perBatch = Math.max(1, Math.floor(TOKENS_PER_BATCH / length))
  const values = length * hiddenSize
  const pause = pacer(signal)
  for (let first = 0; first < sequences; first += perBatch) {
    await pause()
    const count = Math.min(perBatch, sequences - first)
    await run(data.subarray(first * values, (first + count) * values), count)
    onBatch(first + count, sequences)
  }
}
