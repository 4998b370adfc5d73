import * as tf from '@tensorflow/tfjs-core'
import { ShapeError } from '../errors.js'
import { turnOfEventLoop } from '../event-loop.js'
import { rmsNorm } from './block.js'
import type { LlamaConfig } from './config.js'
import { embeddingName } from './embedding.js'
import { registerGradients } from './gradients.js'
import { assertEngineHolds } from './ops/engine.js'
import { usesOwnKernels } from './ops/tensors/products.js'
import { takeFloats } from './ops/tensors/take-floats.js'
import { multiplyRows, normedRows, resident, withFloats } from './own-block.js'
import { assertTensorShape, readRows, readTensor, type WeightSource } from './weights.js'

/** A head up to this many bytes stays on the engine; a larger one is read again, slice by slice, at each use. */
const keptBytes = 2 ** 27

/** The bytes of one slice of the vocabulary. */
const sliceBytes = 2 ** 26

/** The final norm and the output projection of a model. */
export interface LlamaHead {
  readonly vocabSize: number
  readonly hiddenSize: number
  /**
   * @param hidden tokens x hiddenSize: the output of the last block
   * @param target receives the logits; in the kernels' memory it takes the least time. Default: a new array
   * @returns logits, tokens x vocabSize, row-major
   */
  logits(hidden: Float32Array, target?: Float32Array): Promise<Float32Array>
  /** The same as a tensor, tokens x vocabSize, which the caller disposes. */
  logitsTensor(hidden: Float32Array): Promise<tf.Tensor2D>
  /**
   * The backward pass of {@link logits}: from the gradient of a loss on the logits to that on the hidden states.
   *
   * @param hidden tokens x hiddenSize
   * @param logitsGradient tokens x vocabSize
   * @returns tokens x hiddenSize
   */
  backward(hidden: Float32Array, logitsGradient: tf.Tensor2D): Promise<Float32Array>
  /** Frees its tensors. */
  dispose(): void
}

const normName = 'model.norm.weight'

/**
 * Checks, without reading them, that the final norm and the output projection are there and have the shapes that
 * `config` asks for.
 *
 * @throws CheckpointError naming the one that is missing or of another shape
 */
export function assertHead(source: WeightSource, config: LlamaConfig): void {
  const { vocabSize, hiddenSize, tieWordEmbeddings } = config
  const why = `vocab_size and hidden_size; tie_word_embeddings is ${tieWordEmbeddings}`
  assertTensorShape(source, projectionName(config), [vocabSize, hiddenSize], why)
  assertTensorShape(source, normName, [hiddenSize], 'hidden_size')
}

function projectionName({ tieWordEmbeddings }: LlamaConfig): string {
  return tieWordEmbeddings ? embeddingName : 'lm_head.weight'
}

/**
 * Opens the head of a model on the running engine: `model.norm` and `lm_head`, or the embedding where they are tied.
 * It is multiplied by slices of the vocabulary, so that it never has to be one tensor.
 *
 * @throws CheckpointError when a tensor is missing or of another shape
 */
export async function openHead(source: WeightSource, config: LlamaConfig): Promise<LlamaHead> {
  const { vocabSize, hiddenSize, rmsNormEps } = config
  const name = projectionName(config)
  assertHead(source, config)
  const norm = tf.tensor1d(await readTensor(source, normName, [hiddenSize], 'hidden_size'))
  const sliceRows = Math.max(1, Math.floor(sliceBytes / (4 * hiddenSize)))
  const kept = 4 * vocabSize * hiddenSize <= keptBytes ? new Map<number, tf.Tensor2D>() : undefined

  const slice = async (first: number): Promise<tf.Tensor2D> => {
    const known = kept?.get(first)
    if (known !== undefined) return known
    const count = Math.min(sliceRows, vocabSize - first)
    assertEngineHolds(4 * count * hiddenSize, name)
    const rows = await readRows(source, name, first, count)
    const weight = tf.tidy(() => tf.transpose(tf.tensor2d(rows, [count, hiddenSize])))
    kept?.set(first, weight)
    return weight
  }

  const tokensOf = (hidden: Float32Array) => {
    const tokens = hidden.length / hiddenSize
    if (Number.isInteger(tokens) && tokens > 0) return tokens
    throw new ShapeError(`${hidden.length} hidden values are not whole rows of hidden_size ${hiddenSize}`)
  }
  const normalise = (hidden: tf.Tensor2D) => rmsNorm(hidden, norm, rmsNormEps)

  /** Hands `use` each slice of the projection, hiddenSize x tokens of the slice, and the first of its tokens. */
  const forEachSlice = async (use: (weight: tf.Tensor2D, first: number) => Promise<void>) => {
    for (let first = 0; first < vocabSize; first += sliceRows) {
      const weight = await slice(first)
      try {
        await use(weight, first)
      } finally {
        if (kept === undefined) weight.dispose()
      }
    }
  }

  return {
    vocabSize,
    hiddenSize,
    logits: async (hidden, target) => {
      const tokens = tokensOf(hidden)
      if (target !== undefined && target.length !== tokens * vocabSize) {
        throw new ShapeError(
          `the array for the logits has ${target.length} values; expected ${tokens} x ${vocabSize}`,
        )
      }
      if (target !== undefined && usesOwnKernels()) {
        await forEachSlice(async (weight, first) => {
          await turnOfEventLoop()
          const part = { data: target, offset: first, stride: vocabSize }
          withFloats((floats) => {
            const input = normedRows(floats, resident(floats, hidden), norm, rmsNormEps)
            multiplyRows(input, weight, 0, part)
          })
        })
        return target
      }
      let logits = target
      const normed = tf.tidy(() => normalise(tf.tensor2d(hidden, [tokens, hiddenSize])))
      try {
        await forEachSlice(async (weight, first) => {
          const part = await takeFloats(tf.matMul(normed, weight))
          if (logits === undefined && part.length === tokens * vocabSize) logits = part
          else {
            logits ??= new Float32Array(tokens * vocabSize)
            scatterColumns(part, logits, vocabSize, first)
          }
        })
      } finally {
        normed.dispose()
      }
      return logits ?? new Float32Array(0)
    },
    logitsTensor: async (hidden) => {
      const normed = tf.tidy(() => normalise(tf.tensor2d(hidden, [tokensOf(hidden), hiddenSize])))
      const parts: tf.Tensor2D[] = []
      try {
        await forEachSlice(async (weight) => {
          parts.push(tf.matMul(normed, weight))
        })
        return parts.length === 1 ? parts[0] : tf.concat(parts, 1)
      } finally {
        tf.dispose([normed, ...(parts.length === 1 ? [] : parts)])
      }
    },
    backward: async (hidden, logitsGradient) => {
      const tokens = tokensOf(hidden)
      if (logitsGradient.shape[0] !== tokens || logitsGradient.shape[1] !== vocabSize) {
        throw new ShapeError(
          `the gradient on the logits is ${logitsGradient.shape.join(' x ')}; expected ${tokens} x ${vocabSize}`,
        )
      }
      registerGradients()
      let onNormed = tf.zeros<tf.Rank.R2>([tokens, hiddenSize])
      try {
        await forEachSlice(async (weight, first) => {
          const sum = tf.tidy(() => {
            const width = weight.shape[1]
            const part =
              width === vocabSize ? logitsGradient : tf.slice2d(logitsGradient, [0, first], [tokens, width])
            return tf.add<tf.Tensor2D>(onNormed, tf.matMul(part, weight, false, true))
          })
          onNormed.dispose()
          onNormed = sum
        })
        const gradient = tf.grad((x) => normalise(x as tf.Tensor2D))
        return await takeFloats(tf.tidy(() => gradient(tf.tensor2d(hidden, [tokens, hiddenSize]), onNormed)))
      } finally {
        onNormed.dispose()
      }
    },
    dispose: () => {
      tf.dispose([norm, ...(kept?.values() ?? [])])
      kept?.clear()
    },
  }
}

/** Writes `part` (rows x n) into columns `first` to `first + n - 1` of `whole` (rows x cols). */
function scatterColumns(part: Float32Array, whole: Float32Array, cols: number, first: number): void {
  const rows = whole.length / cols
  const width = part.length / rows
  for (let row = 0; row < rows; row++) {
    whole.set(part.subarray(row * width, (row + 1) * width), row * cols + first)
  }
}
