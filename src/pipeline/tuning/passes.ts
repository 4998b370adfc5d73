import type { Pause } from '../../event-loop.js'
import { wholeBlock } from '../../kernels/contract.js'
import { kernels } from '../../kernels/kernels.js'
import type { Matrix } from '../../matrix.js'
import { type Block, disposeBlock, openBlock } from '../../model/decoder/block.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import type { Head } from '../../model/decoder/head.js'
import { linearLayers } from '../../model/decoder/linears.js'
import { runBlock } from '../../model/decoder/run-block.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import { backwardBlock, type LinearGradientListener } from '../../model/passes/backward.js'
import { divergenceGradient } from '../../model/passes/divergence.js'
import { addCodebookGradient } from './codebook-values.js'
import { noGradients, type Student } from './student.js'

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
    const output = new Float32Array(states.length)
    await withBlock({ source, config }, index, async (block) => {
      for (const { first, count, of } of parts(states, length, config)) {
        await pause()
        output.set(await runBlock(block, of(states), count, length), first)
      }
    })
    states = output
  }
  return states
}

/**
 * The mean divergence of the student from its teacher over a batch, and its gradient on the codebooks.
 *
 * @param tokens sequences of one length
 * @param teacher the teacher's final hidden states for them, (sequences * length) x hiddenSize
 */
export async function divergenceOfBatch(
  student: Student,
  head: Head,
  tokens: Int32Array,
  length: number,
  teacher: Float32Array,
  pause: Pause,
): Promise<{ divergence: number; gradients: Map<string, Float64Array> }> {
  const { config, layers } = student
  const inputs: Float32Array[] = []
  const hidden = await forwardBlocks(student, await student.embed(tokens), length, pause, (_, input) => {
    inputs.push(input)
  })
  const { divergence, gradient } = await divergenceGradient(head, teacher, hidden)
  const gradients = noGradients(student)
  let onOutput = gradient.map((value) => value / tokens.length)
  for (let index = config.blocks.length - 1; index >= 0; index--) {
    const names = new Map(linearLayers(config, index).map(({ kind, name }) => [kind, name]))
    const input = inputs.pop()!
    const onInput = new Float32Array(input.length)
    const listen: LinearGradientListener = (kind, x, dy) => {
      const name = names.get(kind)
      const layer = name === undefined ? undefined : layers.get(name)
      if (name === undefined || layer === undefined) return
      addCodebookGradient(layer, weightGradient(x, dy), gradients.get(name)!)
    }
    await withBlock(student, index, async (block) => {
      for (const { first, count, of } of parts(input, length, config)) {
        await pause()
        onInput.set(await backwardBlock(block, of(input), of(onOutput), count, length, listen), first)
      }
    })
    onOutput = onInput
  }
  return { divergence: divergence / tokens.length, gradients }
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
