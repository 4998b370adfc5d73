import type * as tf from '@tensorflow/tfjs-core'
import { type Block, wholeBlock } from '../kernels/contract.js'
import { forwardKernels } from '../kernels/forward-kernels.js'
import type { LlamaBlock } from './block.js'
import type { LinearKind } from './linears.js'
import { engineFloats } from './ops/tensors/products.js'
import { ropeTables } from './rope.js'

/**
 * The forward pass of a block by the kernels of this package alone, in their memory, on all their threads: what
 * `blockForward` computes by tensors, which it rounds differently. Not differentiable.
 */

/** Makes an array in the kernels' memory that lives until the call of {@link withFloats} ends. */
export type NewFloats = (length: number) => Float32Array

/** Runs `use` and then gives back the arrays that it made. What it returns must not be one of them. */
export function withFloats<T>(use: (floats: NewFloats) => T): T {
  const { allocate, release } = forwardKernels()
  const made: Float32Array[] = []
  try {
    return use((length) => {
      const array = allocate(length)
      made.push(array)
      return array
    })
  } finally {
    for (const array of made) release(array)
  }
}

/** A copy in the kernels' memory. */
export function resident(floats: NewFloats, values: Float32Array): Float32Array {
  const copy = floats(values.length)
  copy.set(values)
  return copy
}

/** Of each row of `x` what `rmsNorm` gives. */
export function normedRows(
  floats: NewFloats,
  x: Float32Array,
  norm: tf.Tensor1D,
  epsilon: number,
): Float32Array {
  const [cols] = norm.shape
  const output = floats(x.length)
  forwardKernels().normalizeRows(x.length / cols, cols, x, engineFloats(norm), epsilon, output)
  return output
}

/**
 * What attention gives, tokens x (heads * headDim).
 *
 * @param input of the projections, tokens x hiddenSize
 */
export function attended(
  floats: NewFloats,
  block: LlamaBlock,
  input: Float32Array,
  sequences: number,
  length: number,
): Float32Array {
  const { heads, kvHeads, headDim, slidingWindow } = block.config
  const { cos, sin } = ropeTables(block.config, length)
  const sizes = { sequences, length, heads, kvHeads, headDim, window: slidingWindow }
  const output = floats(sequences * length * heads * headDim)
  withFloats((passing) => {
    const queries = projected(passing, block, 'self_attn.q_proj', input)
    const keys = projected(passing, block, 'self_attn.k_proj', input)
    const values = projected(passing, block, 'self_attn.v_proj', input)
    forwardKernels().attend({ ...sizes, cos, sin, queries, keys, values, output })
  })
  return output
}

/** The input of the last linear layer, tokens x intermediateSize, of the input of the feed-forward layer. */
export function gated(floats: NewFloats, block: LlamaBlock, input: Float32Array): Float32Array {
  const gate = projected(floats, block, 'mlp.gate_proj', input)
  withFloats((passing) => {
    forwardKernels().gate(gate, projected(passing, block, 'mlp.up_proj', input), gate)
  })
  return gate
}

/** Adds a linear layer's output to the residual stream. */
export function addProjected(
  block: LlamaBlock,
  kind: 'self_attn.o_proj' | 'mlp.down_proj',
  input: Float32Array,
  hidden: Float32Array,
): void {
  project(block, kind, input, hidden, 1)
}

/** A linear layer's output, tokens x out. */
function projected(floats: NewFloats, block: LlamaBlock, kind: LinearKind, input: Float32Array) {
  const [inputs, outputs] = block.weights[kind].shape
  const output = floats((input.length / inputs) * outputs)
  project(block, kind, input, output, 0)
  return output
}

function project(
  { weights, biases }: LlamaBlock,
  kind: LinearKind,
  input: Float32Array,
  output: Float32Array,
  beta: 0 | 1,
): void {
  multiplyRows(input, weights[kind], beta, wholeBlock(output, weights[kind].shape[1]))
  const bias = biases[kind]
  if (bias !== undefined) addToRows(output, engineFloats(bias))
}

/**
 * `C = A B` or `C += A B` for A rows x inputs and C rows x outputs in the kernels' memory and a weight B, inputs x
 * outputs.
 */
export function multiplyRows(a: Float32Array, b: tf.Tensor2D, beta: 0 | 1, c: Block): void {
  const [inputs, outputs] = b.shape
  const [left, right] = [wholeBlock(a, inputs), wholeBlock(engineFloats(b), outputs)]
  forwardKernels().gemm('AB', a.length / inputs, outputs, inputs, 1, left, right, beta, c)
}

function addToRows(values: Float32Array, bias: Float32Array): void {
  for (let row = 0; row < values.length; row += bias.length) {
    for (let j = 0; j < bias.length; j++) values[row + j] += bias[j]
  }
}
