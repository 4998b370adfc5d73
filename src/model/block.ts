import * as tf from '@tensorflow/tfjs-core'
import { NumericError, ShapeError } from '../errors.js'
import type { LlamaConfig } from './config.js'
import {
  blockPrefix,
  type LinearInputGroup,
  type LinearKind,
  type LinearLayer,
  linearInputGroups,
  linearLayers,
} from './linears.js'
import { assertEngineHolds } from './ops/engine.js'
import { causalAttention } from './ops/tensors/attention.js'
import { halfTurnMatrix, ropeTables } from './rope.js'
import { assertTensorShape, readTensor, type WeightSource } from './weights.js'

/** The norms of a block, each of hiddenSize values. */
const inputNorm = 'input_layernorm'
const attentionNorm = 'post_attention_layernorm'

/** One block's weights as tensors of the running engine. Free them with {@link disposeBlock}. */
export interface LlamaBlock {
  readonly config: LlamaConfig
  readonly index: number
  /** Transposed weights, in x out: the engines multiply untransposed matrices fastest. */
  readonly weights: Record<LinearKind, tf.Tensor2D>
  readonly biases: Partial<Record<LinearKind, tf.Tensor1D>>
  readonly inputNorm: tf.Tensor1D
  readonly attentionNorm: tf.Tensor1D
  /** The block that this one was forked from; see {@link forkBlock}. */
  readonly original?: LlamaBlock
  /** How an input (tokens x in) is multiplied with a layer's weight; default: by `tf.matMul`. */
  readonly multiply?: (kind: LinearKind, input: tf.Tensor2D) => tf.Tensor2D
}

/**
 * Is given the input of each group of linear layers during a forward pass, tokens x inFeatures. It is called inside
 * `tf.tidy`: the tensor is gone afterwards, and so is what is computed from it, unless kept or read.
 */
export type TensorListener = (kinds: LinearInputGroup, input: tf.Tensor2D) => void

/**
 * Checks, without reading them, that all tensors of block `index` are there and have the shapes that `config` asks for.
 *
 * @throws CheckpointError naming the first that is missing or of another shape
 */
export function assertBlockTensors(source: WeightSource, config: LlamaConfig, index: number): void {
  for (const { kind, name, biasName, rows, cols } of linearLayers(config, index)) {
    assertTensorShape(source, name, [rows, cols], linearSizes(kind))
    if (biasName !== undefined) assertTensorShape(source, biasName, [rows], `rows of ${kind}`)
  }
  for (const norm of [inputNorm, attentionNorm]) {
    assertTensorShape(source, normName(index, norm), [config.hiddenSize], 'hidden_size')
  }
}

function linearSizes(kind: LinearKind): string {
  return `rows and columns of ${kind} from hidden_size, intermediate_size, heads and head_dim`
}

function normName(index: number, norm: string): string {
  return `${blockPrefix(index)}${norm}.weight`
}

/**
 * Loads block `index` (counted from 0) onto the running engine.
 *
 * @throws CheckpointError when a tensor is missing or has another shape than `config` asks for
 * @throws NumericError when a weight is NaN or infinite
 * @throws UnsupportedError when the engine cannot hold the block
 */
export async function loadBlock(
  source: WeightSource,
  config: LlamaConfig,
  index: number,
): Promise<LlamaBlock> {
  const linears = linearLayers(config, index)
  const values = linears.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
  assertEngineHolds(4 * values, `block ${index}`)
  const loaded: tf.Tensor[] = []
  const keep = <T extends tf.Tensor>(tensor: T) => {
    loaded.push(tensor)
    return tensor
  }
  const norm = async (name: string) =>
    keep(tf.tensor1d(await readTensor(source, normName(index, name), [config.hiddenSize], 'hidden_size')))
  try {
    const weights: Partial<Record<LinearKind, tf.Tensor2D>> = {}
    const biases: Partial<Record<LinearKind, tf.Tensor1D>> = {}
    for (const layer of linears) {
      const { kind, name, biasName, rows, cols } = layer
      const read = await readTensor(source, name, [rows, cols], linearSizes(kind))
      weights[kind] = keep(transposedWeight(layer, read))
      if (biasName !== undefined) {
        biases[kind] = keep(tf.tensor1d(await readTensor(source, biasName, [rows], `rows of ${kind}`)))
      }
    }
    return {
      config,
      index,
      weights: weights as Record<LinearKind, tf.Tensor2D>,
      biases,
      inputNorm: await norm(inputNorm),
      attentionNorm: await norm(attentionNorm),
    }
  } catch (error) {
    tf.dispose(loaded)
    throw error
  }
}

/** Frees a block's tensors, those that it shares with a fork too. */
export function disposeBlock(block: LlamaBlock): void {
  tf.dispose([
    Object.values(block.weights),
    Object.values(block.biases),
    block.inputNorm,
    block.attentionNorm,
  ])
}

/** A block of the same tensors whose weights {@link replaceLinear} can change without changing those of `block`. */
export function forkBlock(block: LlamaBlock): LlamaBlock {
  return { ...block, weights: { ...block.weights }, original: block }
}

/**
 * Puts another weight, e.g. a dequantized one, in the place of a linear layer's.
 *
 * @param weight rows x cols as in the checkpoint, row-major; copied
 * @throws ShapeError when its length is another
 */
export function replaceLinear(block: LlamaBlock, kind: LinearKind, weight: Float32Array): void {
  const layer = linearLayers(block.config, block.index).find((linear) => linear.kind === kind)
  if (layer === undefined || weight.length !== layer.rows * layer.cols) {
    throw new ShapeError(
      `${layer?.name ?? kind}: the new weight has ${weight.length} values; expected ${layer?.rows} x ${layer?.cols}`,
    )
  }
  const replacement = transposedWeight(layer, weight)
  if (block.weights[kind] !== block.original?.weights[kind]) block.weights[kind].dispose()
  block.weights[kind] = replacement
}

function transposedWeight({ rows, cols }: LinearLayer, weight: Float32Array): tf.Tensor2D {
  return tf.tidy(() => tf.transpose(tf.tensor2d(weight, [rows, cols])))
}

/** Throws ShapeError when `hidden` is not batch * length x hiddenSize. */
export function assertHiddenSize(
  block: LlamaBlock,
  hidden: Float32Array,
  batch: number,
  length: number,
): void {
  const { hiddenSize } = block.config
  if (hidden.length === batch * length * hiddenSize) return
  throw new ShapeError(
    `block ${block.index}: ${batch} sequences of ${length} tokens need ${batch * length * hiddenSize} hidden values, ` +
      `found ${hidden.length}`,
  )
}

/** Throws NumericError when a block's output is not finite. */
export function assertFiniteHidden(hidden: Float32Array, block: LlamaBlock, length: number): void {
  let at = 0
  // what is finite times 0 is 0; several times as fast as asking Number.isFinite
  while (at < hidden.length && hidden[at] * 0 === 0) at++
  if (at === hidden.length) return
  const token = Math.floor(at / block.config.hiddenSize)
  throw new NumericError(
    `block ${block.index}: its output is ${hidden[at]} in sequence ${Math.floor(token / length)} of the batch, ` +
      `position ${token % length}; expected finite numbers. The activations overflow float32: the weights are ` +
      'damaged, or the config.json is of another model',
  )
}

/**
 * Runs a block over `batch` sequences of `length` tokens, for use inside `tf.tidy`: only tfjs operations between input
 * and output.
 *
 * @param hidden (batch * length) x hiddenSize
 */
export function blockForward(
  block: LlamaBlock,
  hidden: tf.Tensor2D,
  batch: number,
  length: number,
  onInput?: TensorListener,
): tf.Tensor2D {
  const { queries, keys, values } = attentionInputs(block, hidden, batch, length, 0, onInput)
  const attended = attendOver(block.config, queries, keys, values)
  return afterAttention(block, hidden, attended, onInput)
}

export function attendOver(
  config: LlamaConfig,
  queries: tf.Tensor4D,
  keys: tf.Tensor4D,
  values: tf.Tensor4D,
) {
  const [sequences, length] = queries.shape
  const flat = (x: tf.Tensor4D) => tf.reshape<tf.Rank.R2>(x, [sequences * length, -1])
  const { heads, kvHeads, headDim, slidingWindow: window } = config
  const shape = { heads, kvHeads, headDim, scale: 1 / Math.sqrt(headDim), softCap: undefined, window }
  return causalAttention(flat(queries), flat(keys), flat(values), { sequences, length, position: 0 }, shape)
}

/**
 * The first part of a block: norm, projections and rotary positions.
 *
 * @param firstPosition the position of the first token of each sequence
 * @returns queries batch x length x heads x headDim; keys and values batch x length x kvHeads x headDim
 */
export function attentionInputs(
  block: LlamaBlock,
  hidden: tf.Tensor2D,
  batch: number,
  length: number,
  firstPosition: number,
  onInput?: TensorListener,
): { queries: tf.Tensor4D; keys: tf.Tensor4D; values: tf.Tensor4D } {
  const { config } = block
  const input = rmsNorm(hidden, block.inputNorm, config.rmsNormEps)
  onInput?.(linearInputGroups[0], input)
  const heads = (kind: LinearKind) =>
    tf.reshape<tf.Rank.R4>(linear(block, kind, input), [batch, length, -1, config.headDim])
  const rotate = rotaryEmbedding(config, firstPosition, length)
  return {
    queries: rotate(heads('self_attn.q_proj')),
    keys: rotate(heads('self_attn.k_proj')),
    values: heads('self_attn.v_proj'),
  }
}

/**
 * The rest of a block: output projection, residuals and the gated feed-forward layer.
 *
 * @param hidden the block's input, tokens x hiddenSize
 * @param attended tokens x (heads * headDim)
 */
export function afterAttention(
  block: LlamaBlock,
  hidden: tf.Tensor2D,
  attended: tf.Tensor2D,
  onInput?: TensorListener,
): tf.Tensor2D {
  onInput?.(linearInputGroups[1], attended)
  const middle = afterOutputProjection(block, hidden, attended)
  return afterDownProjection(block, middle, gatedInput(block, middle, onInput))
}

/** The residual stream (tokens x hiddenSize) between attention and feed-forward layer. */
export function afterOutputProjection(
  block: LlamaBlock,
  hidden: tf.Tensor2D,
  attended: tf.Tensor2D,
): tf.Tensor2D {
  return tf.add(hidden, linear(block, 'self_attn.o_proj', attended))
}

/** The input of the last linear layer, tokens x intermediateSize. */
export function gatedInput(block: LlamaBlock, middle: tf.Tensor2D, onInput?: TensorListener): tf.Tensor2D {
  const input = rmsNorm(middle, block.attentionNorm, block.config.rmsNormEps)
  onInput?.(linearInputGroups[2], input)
  const gate = linear(block, 'mlp.gate_proj', input)
  const gated = tf.mul<tf.Tensor2D>(tf.mul(gate, tf.sigmoid(gate)), linear(block, 'mlp.up_proj', input))
  onInput?.(linearInputGroups[3], gated)
  return gated
}

/** The block's output, tokens x hiddenSize. */
export function afterDownProjection(block: LlamaBlock, middle: tf.Tensor2D, gated: tf.Tensor2D): tf.Tensor2D {
  return tf.add(middle, linear(block, 'mlp.down_proj', gated))
}

function linear(block: LlamaBlock, kind: LinearKind, input: tf.Tensor2D): tf.Tensor2D {
  const product = block.multiply?.(kind, input) ?? tf.matMul<tf.Tensor2D>(input, block.weights[kind])
  const bias = block.biases[kind]
  return bias === undefined ? product : tf.add<tf.Tensor2D>(product, bias)
}

/** `x / sqrt(mean(x^2) + epsilon) * scale` over the last axis. */
export function rmsNorm(x: tf.Tensor2D, scale: tf.Tensor1D, epsilon: number): tf.Tensor2D {
  const meanSquare = tf.mean(tf.square(x), -1, true)
  return tf.mul<tf.Tensor2D>(tf.mul(x, tf.rsqrt(tf.add(meanSquare, epsilon))), scale)
}

function rotaryEmbedding(config: LlamaConfig, first: number, length: number) {
  const { headDim } = config
  const { cos, sin } = ropeTables(config, first + length)
  const table = (values: Float32Array) =>
    tf.tensor3d(values.subarray(first * headDim, (first + length) * headDim), [length, 1, headDim])
  const cosines = table(cos)
  const sines = table(sin)
  const halfTurn = tf.tensor2d(halfTurnMatrix(headDim), [headDim, headDim])
  return (x: tf.Tensor4D): tf.Tensor4D => {
    const turned = tf.reshape(tf.matMul(tf.reshape<tf.Rank.R2>(x, [-1, headDim]), halfTurn), x.shape)
    return tf.add(tf.mul(x, cosines), tf.mul(turned, sines))
  }
}
