import type { Checkpoint } from '../checkpoint/checkpoint.js'
import type { CheckpointWeights } from '../checkpoint/model-weights.js'
import type { ModuleRecord } from '../checkpoint/quantized/quantized-config.js'
import { readQuantizedLayer } from '../checkpoint/quantized/quantized-tensors.js'
import { NumericError } from '../common/errors.js'
import type { EncodeBlock } from '../gguf/blocks/encode-blocks.js'
import { encodeType } from '../gguf/blocks/encode-type.js'
import { type ExactBlocks, exactBlocks } from '../gguf/blocks/exact-blocks.js'
import { decodeType, type GgufType } from '../gguf/blocks/tensor-types.js'
import type { NamedTensor } from '../gguf/tensor-names.js'
import { dequantize } from '../packing/quantized-layer.js'

/** What tensors are read from. */
export interface ExportSource {
  readonly checkpoint: Checkpoint
  readonly weights: CheckpointWeights
  /** Of quantized layers, by the name of their weight. */
  readonly records: ReadonlyMap<string, ModuleRecord>
}

/** What writing lost. */
export interface Loss {
  /** Sum of the squares of the differences. */
  difference: number
  /** Sum of the squares of the weights. */
  norm: number
}

/** Values read and encoded at a time. */
const CHUNK_VALUES = 2 ** 22
const LARGEST_HALF = 65504

/** Rows of a tensor in the order of the file, and how their blocks are encoded where that is not up to the type. */
interface Rows {
  readonly values: Float32Array
  readonly encoderOf?: (block: number) => EncodeBlock
}

/**
 * The bytes of a tensor, some rows at a time, in the order of the file.
 *
 * @param loss gets what the type loses
 * @returns whether all its codes are those of the model
 */
export async function* tensorData(
  source: ExportSource,
  named: NamedTensor,
  type: GgufType,
  loss: Loss,
): AsyncGenerator<Uint8Array, boolean> {
  let exact = named.matrix
  for (const name of named.sources) {
    for await (const { values, encoderOf } of rowsOf(source, named, name, type)) {
      if (named.offset !== 0) for (let i = 0; i < values.length; i++) values[i] += named.offset
      requireFinite(values, name, type)
      const bytes = encodeType(type, values, encoderOf)
      if (type.name !== 'F32') addLoss(type, values, bytes, loss)
      if (encoderOf === undefined) exact = false
      yield bytes
    }
  }
  return exact
}

async function* rowsOf(
  source: ExportSource,
  named: NamedTensor,
  name: string,
  type: GgufType,
): AsyncGenerator<Rows> {
  const record = source.records.get(name)
  const { rows, cols, order } = named
  if (record !== undefined) {
    const module = name.slice(0, -'.weight'.length)
    const layer = await readQuantizedLayer(source.checkpoint, module, record)
    const exact = exactBlocks(layer, record)
    const values = ordered(dequantize(layer).data, named)
    yield { values, ...(exact?.type === type.name && { encoderOf: encodersOf(exact, named) }) }
    return
  }
  if (order !== undefined || source.weights.shape(name)?.length !== 2) {
    const values = await source.weights.floats(name)
    yield { values: order === undefined ? values.slice() : ordered(values, named) }
    return
  }
  const atOnce = Math.max(1, Math.floor(CHUNK_VALUES / cols))
  for (let row = 0; row < rows; row += atOnce) {
    yield { values: await source.weights.rows(name, row, Math.min(atOnce, rows - row)) }
  }
}

function encodersOf(exact: ExactBlocks, { cols, order }: NamedTensor): (block: number) => EncodeBlock {
  const blocks = cols / 32
  return (block) => {
    const row = Math.floor(block / blocks)
    return exact.encoder(order === undefined ? row : order(row), block % blocks)
  }
}

function ordered(values: Float32Array, { rows, cols, order }: NamedTensor): Float32Array {
  if (order === undefined) return values
  const sorted = new Float32Array(values.length)
  for (let row = 0; row < rows; row++) {
    const from = order(row) * cols
    sorted.set(values.subarray(from, from + cols), row * cols)
  }
  return sorted
}

function requireFinite(values: Float32Array, name: string, type: GgufType): void {
  const most = type.name === 'F16' ? LARGEST_HALF : Number.MAX_VALUE
  const at = values.findIndex((value) => !(Math.abs(value) <= most))
  if (at < 0) return
  const allowed = type.name === 'F16' ? `of at most ${LARGEST_HALF}; choose the type bf16 or f32` : ''
  throw new NumericError(`${name}: value ${at} is ${values[at]}; expected finite numbers ${allowed}`.trim())
}

function addLoss(type: GgufType, values: Float32Array, bytes: Uint8Array, loss: Loss): void {
  const decoded = decodeType(type, bytes, new Float32Array(values.length))
  for (let i = 0; i < values.length; i++) {
    loss.difference += (decoded[i] - values[i]) ** 2
    loss.norm += values[i] ** 2
  }
}
