import { NumericError, ShapeError } from '../../common/errors.js'
import type { Matrix } from '../../common/matrix.js'
import { type Block, type BlockNorms, withLinears } from '../decoder/block.js'
import type { BlockRun, BlockState } from '../decoder/block-state.js'
import { type Head, requireRows } from '../decoder/head.js'
import { blockLinears } from '../decoder/linears.js'
import { columnsOf } from '../decoder/run-block.js'
import { blockStages, runStage } from '../decoder/stages.js'
import type { Ops } from '../ops/ops.js'
import { vectorJacobian } from '../ops/tensors/vector-jacobian.js'

/**
 * Is given the input of a linear layer (tokens x in) and the gradient of the loss on its output (tokens x out); the
 * gradient on its weight is `outputGradient^T input`. Of an expert's layer only its tokens, whose rows among all are
 * `tokens`.
 */
export type LinearGradientListener = (
  kind: string,
  input: Matrix,
  outputGradient: Matrix,
  tokens: Int32Array | undefined,
) => void

/** Is given the gradient of the loss on a norm's scale and shift, of their lengths; `place` says which norm of the block. */
export type NormGradientListener = (
  place: keyof BlockNorms,
  onScale: Float32Array,
  onShift: Float32Array | undefined,
) => void

/**
 * The backward pass of a block: from the gradient of a loss on its output to that on its input. Its forward pass is
 * done once more, so that between the two passes of a model only the inputs of its blocks need be kept. All experts of
 * the block are in memory.
 *
 * @param hidden the block's input, (batch * length) x hiddenSize, row-major
 * @param outputGradient of the same shape
 * @param onLinear called once for each of the block's linear layers that tokens went through
 * @param onNorm called once for each of the block's norms
 * @returns the gradient on `hidden`, of the same shape
 * @throws ShapeError when an array is of another size
 * @throws NumericError when the gradient holds NaN or infinity, naming the block
 */
export async function backwardBlock(
  block: Block,
  hidden: Float32Array,
  outputGradient: Float32Array,
  batch: number,
  length: number,
  onLinear?: LinearGradientListener,
  onNorm?: NormGradientListener,
): Promise<Float32Array> {
  const rows = batch * length
  const cols = columnsOf(block, hidden, rows)
  columnsOf(block, outputGradient, rows)
  const routed = new Map<string, Int32Array>()
  const forward = <T>(ops: Ops<T>, residual: T): T => {
    const tokens = { sequences: batch, length, position: 0 }
    const run: BlockRun<T> = { ops, block, stretches: [{ tokens, span: length }] }
    let state: BlockState<T> = { residual }
    for (const stage of blockStages(block.description)) {
      const tokens = stage.expert === undefined ? undefined : state.routes?.tokens[stage.expert]
      if (tokens) for (const { kind } of stage.linears) routed.set(kind, tokens)
      state = runStage(run, stage, state)
    }
    return state.residual
  }
  const listen =
    onLinear &&
    ((kind: string, input: Matrix, gradient: Matrix) => onLinear(kind, input, gradient, routed.get(kind)))
  const places = new Map(Object.entries(block.norms).map(([place, weights]) => [weights, place]))
  const listenToNorm =
    onNorm &&
    ((weights: object, onScale: Float32Array, onShift: Float32Array | undefined) =>
      onNorm(places.get(weights) as keyof BlockNorms, onScale, onShift))
  const gradient = await withLinears(block, blockLinears(block.description), () =>
    vectorJacobian(forward, hidden, rows, cols, outputGradient, listen, listenToNorm),
  )
  assertFiniteGradient(gradient, block)
  return gradient
}

/**
 * The backward pass of a head: from the gradient of a loss on the logits to that on the hidden states.
 *
 * @param hidden tokens x hiddenSize
 * @param logitsGradient tokens x vocabSize
 * @returns tokens x hiddenSize
 */
export async function headGradient(
  head: Head,
  hidden: Float32Array,
  logitsGradient: Float32Array,
): Promise<Float32Array> {
  const { vocabSize, hiddenSize } = head
  const tokens = requireRows(hidden, hiddenSize)
  if (logitsGradient.length !== tokens * vocabSize) {
    throw new ShapeError(
      `the gradient on the logits has ${logitsGradient.length} values; expected ${tokens} x ${vocabSize}`,
    )
  }
  const gradient = new Float32Array(hidden.length)
  await head.forEachSlice((slice, first) => {
    const part = columnsFrom(logitsGradient, vocabSize, first, slice.count)
    const ofSlice = vectorJacobian((ops, x) => slice.logits(ops, x), hidden, tokens, hiddenSize, part)
    for (let i = 0; i < gradient.length; i++) gradient[i] += ofSlice[i]
  })
  return gradient
}

function columnsFrom(values: Float32Array, cols: number, first: number, count: number): Float32Array {
  if (count === cols) return values
  const rows = values.length / cols
  const part = new Float32Array(rows * count)
  for (let row = 0; row < rows; row++) {
    const start = row * cols + first
    part.set(values.subarray(start, start + count), row * count)
  }
  return part
}

function assertFiniteGradient(gradient: Float32Array, { description: { index } }: Block): void {
  const at = gradient.findIndex((value) => value * 0 !== 0)
  if (at < 0) return
  throw new NumericError(
    `block ${index}: the gradient on its input is ${gradient[at]}; expected finite numbers. The activations or the ` +
      'gradient on its output overflow float32',
  )
}
