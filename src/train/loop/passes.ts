import type { Pause } from '../../common/event-loop.js'
import type { Matrix } from '../../common/matrix.js'
import { wholeBlock } from '../../kernels/contract.js'
import { kernels } from '../../kernels/kernels.js'
import { type Block, disposeBlock, normsOf, openBlock } from '../../model/decoder/block.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import type { Head } from '../../model/decoder/head.js'
import { blockLinears } from '../../model/decoder/linears.js'
import { runBlock } from '../../model/decoder/run-block.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import {
  backwardBlock,
  type LinearGradientListener,
  type NormGradientListener,
} from '../../model/passes/backward.js'
import {
  type LossTerms,
  type PredictionTargets,
  predictionLoss,
  predictionLossGradient,
} from '../../model/passes/prediction-loss.js'
import { addHiddenGradient, hiddenDistance } from './hidden-loss.js'
import type { ParameterValues, Student } from './student.js'

/** Tokens that run through a block at once. */
const TOKENS_PER_PASS = 2048

/** The weights that a pass runs through. */
export interface PassModel {
  readonly source: WeightSource
  readonly config: DecoderDescription
}

/**
 * Runs sequences through all blocks, one of them loaded at a time.
 *
 * @param hidden the embedded tokens, (sequences * length) x hiddenSize
 * @param onInput is given what each block reads
 * @returns the output of the last block, of the same shape
 */
export async function forwardBlocks(
  { source, config }: PassModel,
  hidden: Float32Array,
  length: number,
  pause: Pause,
  onInput: (index: number, input: Float32Array) => void = () => {},
): Promise<Float32Array> {
  let states = hidden
  for (let index = 0; index < config.blocks.length; index++) {
    onInput(index, states)
    await withBlock({ source, config }, index, async (block) => {
      states = await throughBlock(block, config, states, length, pause)
    })
  }
  return states
}

/**
 * Runs sequences through one block, some at a time.
 *
 * @param states what the block reads, (sequences * length) x hiddenSize
 * @returns its output, of the same shape
 */
export async function throughBlock(
  block: Block,
  config: DecoderDescription,
  states: Float32Array,
  length: number,
  pause: Pause,
  watch?: Parameters<typeof runBlock>[4],
): Promise<Float32Array> {
  const output = new Float32Array(states.length)
  for (const { first, count, of } of parts(states, length, config)) {
    await pause()
    output.set(await runBlock(block, of(states), count, length, watch), first)
  }
  return output
}

/** What a batch is trained on. */
export interface Batch {
  /** Token ids of some sequences of one length, one behind the other. */
  readonly tokens: Int32Array
  readonly length: number
  /** The teacher of the same text, where there is one. */
  readonly teacher?: { readonly head: Head; readonly hidden: Float32Array }
  /** What the divergence from the teacher counts; the cross entropy counts the rest. */
  readonly distillation: number
  /** Undefined: only predictions count. */
  readonly hidden?: HiddenTargets
}

/** What hidden states are held against. */
export interface HiddenTargets {
  /** By the student's block: what its output should be, (sequences * length) x hiddenSize. */
  readonly afterBlock: readonly Float32Array[]
  /** What the mean distance counts in the loss. */
  readonly weight: number
}

/**
 * The mean losses of a batch: predictions in nats per token, `divergence` 0 without a teacher; `hidden` as a share of the size
 * of hidden states, 0 without targets.
 */
export type BatchLoss = LossTerms & { readonly hidden: number; readonly loss: number }

/** The mean losses of the student over a batch. */
export async function lossOfBatch(
  student: Student,
  head: Head,
  batch: Batch,
  pause: Pause,
): Promise<BatchLoss> {
  let distance = 0
  const watch = (index: number, input: Float32Array) => {
    if (index > 0) distance += distanceAfter(batch, index - 1, input)
  }
  const hidden = await forwardBlocks(student, await student.embed(batch.tokens), batch.length, pause, watch)
  distance += distanceAfter(batch, student.config.blocks.length - 1, hidden)
  return meanLoss(batch, await predictionLoss(head, hidden, targetsOf(batch)), distance)
}

/**
 * The same, and its gradient on all parameters.
 *
 * @param gradients are added to, times `share`
 */
export async function addGradients(
  student: Student,
  head: Head,
  batch: Batch,
  gradients: ParameterValues,
  pause: Pause,
  share = 1,
): Promise<BatchLoss> {
  const { config } = student
  const { tokens, length, distillation } = batch
  const inputs: Float32Array[] = []
  const hidden = await forwardBlocks(student, await student.embed(tokens), length, pause, (_, input) => {
    inputs.push(input)
  })
  const factors = {
    crossEntropy: (share * (1 - distillation)) / predictedTokens(batch),
    divergence: (share * distillation) / tokens.length,
  }
  const { gradient, ...sums } = await predictionLossGradient(head, hidden, targetsOf(batch), factors)
  let onOutput = gradient
  let output = hidden
  let distance = 0
  for (let index = config.blocks.length - 1; index >= 0; index--) {
    const input = inputs.pop()!
    distance += distanceAfter(batch, index, output)
    addGradientAfter(batch, index, output, onOutput, share)
    output = input
    const onInput = new Float32Array(input.length)
    const { onLinear, onNorm } = listeners(student, index, gradients)
    await withBlock(student, index, async (block) => {
      for (const { first, count, of } of parts(input, length, config)) {
        await pause()
        const up = of(onOutput)
        onInput.set(await backwardBlock(block, of(input), up, count, length, onLinear, onNorm), first)
      }
    })
    onOutput = onInput
  }
  return meanLoss(batch, sums, distance)
}

/** Of what a block gives to what it should, summed over the tokens; 0 without targets. */
function distanceAfter({ hidden, tokens }: Batch, index: number, output: Float32Array): number {
  return hidden ? hiddenDistance(output, hidden.afterBlock[index], output.length / tokens.length) : 0
}

/** Adds the gradient of the mean distance on what a block gives, times what it counts and `share`. */
function addGradientAfter(
  { hidden, tokens }: Batch,
  index: number,
  output: Float32Array,
  onOutput: Float32Array,
  share: number,
): void {
  if (hidden === undefined) return
  const { afterBlock, weight } = hidden
  const factor = (share * weight) / (tokens.length * afterBlock.length)
  addHiddenGradient(onOutput, output, afterBlock[index], output.length / tokens.length, factor)
}

/** Hands the gradients on a block's tensors to what is trained of them. */
function listeners(
  { config, trained }: Student,
  index: number,
  gradients: ParameterValues,
): { onLinear: LinearGradientListener; onNorm: NormGradientListener | undefined } {
  const description = config.blocks[index]
  const names = new Map(blockLinears(description).map(({ kind, module }) => [kind, `${module}.weight`]))
  const norms = normsOf(description)
  const add = (name: string, onValues: () => Float32Array) => {
    const trainable = trained.get(name)
    if (trainable) trainable.addGradient(onValues(), gradients.get(name)!)
  }
  const hasNorms = Object.values(norms).some(({ weights }) => weights.some((name) => trained.has(name)))
  return {
    onLinear: (kind, x, dy) => add(names.get(kind)!, () => weightGradient(x, dy)),
    onNorm: hasNorms
      ? (place, onScale, onShift) => {
          const { weights, biases, size } = norms[place]
          const run = (values: Float32Array, i: number) => values.subarray(i * size, (i + 1) * size)
          for (const [i, name] of weights.entries()) add(name, () => run(onScale, i))
          if (onShift) for (const [i, name] of biases.entries()) add(name, () => run(onShift, i))
        }
      : undefined,
  }
}

/** @param distance of hidden states, summed over tokens and blocks */
function meanLoss(batch: Batch, sums: LossTerms, distance: number): BatchLoss {
  const crossEntropy = sums.crossEntropy / predictedTokens(batch)
  const divergence = sums.divergence / batch.tokens.length
  const { distillation, hidden: targets } = batch
  const hidden = targets ? distance / (batch.tokens.length * targets.afterBlock.length) : 0
  const predicted = (1 - distillation) * crossEntropy + distillation * divergence
  return { crossEntropy, divergence, hidden, loss: predicted + (targets ? targets.weight * hidden : 0) }
}

/** Positions that another token of their sequence follows. */
function predictedTokens({ tokens, length }: Batch): number {
  return Math.max(1, tokens.length - tokens.length / length)
}

function targetsOf({ tokens, length, teacher }: Batch): PredictionTargets {
  const next = tokens.map((_, i) => (i % length === length - 1 ? -1 : tokens[i + 1]))
  return { next, ...(teacher && { teacher }) }
}

/** `dy^T x`, out x in. */
function weightGradient(x: Matrix, dy: Matrix): Float32Array {
  const gradient = new Float32Array(dy.cols * x.cols)
  const [left, right] = [wholeBlock(dy.data, dy.cols), wholeBlock(x.data, x.cols)]
  kernels().gemm('AtB', dy.cols, x.cols, x.rows, 1, left, right, 0, wholeBlock(gradient, x.cols))
  return gradient
}

export async function withBlock(
  { source, config }: PassModel,
  index: number,
  use: (block: Block) => Promise<void>,
): Promise<void> {
  const block = await openBlock(source, config.blocks[index])
  try {
    await use(block)
  } finally {
    disposeBlock(block)
  }
}

export interface Part {
  /** The first of its values. */
  readonly first: number
  /** Sequences. */
  readonly count: number
  of(hidden: Float32Array): Float32Array
}

/** Cuts hidden states into parts of whole sequences that run through a block at once. */
export function parts(hidden: Float32Array, length: number, { hiddenSize }: DecoderDescription): Part[] {
  const values = length * hiddenSize
  const size = values * Math.max(1, Math.floor(TOKENS_PER_PASS / length))
  return Array.from({ length: Math.ceil(hidden.length / size) }, (_, i) => {
    const first = i * size
    const end = Math.min(first + size, hidden.length)
    return { first, count: (end - first) / values, of: (x) => x.subarray(first, end) }
  })
}
