import { CheckpointError, UnsupportedError } from '../../common/errors.js'
import { assertFinite, matrix } from '../../common/matrix.js'
import type { PackedQuantizedLayer } from '../../packing/quantized-layer.js'

/** What flows through a block, by where: the rows of the cache that attention reads, or the input of a layer. */
export interface ActivationPlace {
  /** The layer's name in the checkpoint, or the block's prefix and `keys` or `values`. */
  readonly name: string
  /** Values of a row that belong together: all of a layer's inputs, or those of a head. */
  readonly width: number
}

/**
 * Is shown activations before they are used; what it returns takes their place. The values may be overwritten
 * afterwards. Undefined: they stay as they are.
 */
export interface OnActivations {
  (place: ActivationPlace, values: Float32Array): Float32Array | undefined
  /** Beyond these values what it returns does not change any more; undefined: there is nothing beyond. */
  readonly limits?: (place: ActivationPlace) => readonly [low: number, high: number] | undefined
}

/** The weights of a model as float32; quantized layers come out dequantized. */
export interface WeightSource {
  /** The shape of a tensor, undefined when there is none of that name. */
  shape(name: string): readonly number[] | undefined
  /** A whole tensor, row-major. */
  floats(name: string): Promise<Float32Array>
  /** Rows `first` to `first + count - 1` of a 2-D tensor. */
  rows(name: string, first: number, count: number): Promise<Float32Array>
  /** A quantized layer as it is stored, for engines that multiply by it as it is; undefined for one that is not quantized. */
  packed?(name: string): Promise<PackedQuantizedLayer | undefined>
  /** Is shown activations on their way through the blocks, and may round them. */
  readonly onActivations?: OnActivations | undefined
}

/**
 * Checks that a tensor is there and has the shape that the configuration asks for.
 *
 * @param why where the expected sizes come from, e.g. `'hidden_size'`
 * @throws CheckpointError naming the tensor, its shape and the expected one
 * @throws UnsupportedError where it is part of a fused tensor that is not read
 */
export function assertTensorShape(
  source: WeightSource,
  name: string,
  expected: readonly number[],
  why: string,
): void {
  const found = source.shape(name)
  const reason = `config.json asks for ${expected.join(' x ')} (${why})`
  if (found === undefined) {
    refuseFusedExperts(source, name)
    refuseNamesOfBaseModel(source, name)
    throw new CheckpointError(
      `${name}: no such tensor in the checkpoint; ${reason}. Files may be missing, or config.json is of another model`,
    )
  }
  if (found.length !== expected.length || found.some((size, axis) => size !== expected[axis])) {
    throw new CheckpointError(
      `${name}: found the shape ${found.join(' x ') || 'of a scalar'}; ${reason}. config.json may be of another model`,
    )
  }
}

/** `save_pretrained` of transformers 5 writes the experts of a block as one tensor if told to. */
function refuseFusedExperts(source: WeightSource, missing: string): void {
  const fused = missing.replace(/\.(mlp|block_sparse_moe)\..*/, '.mlp.experts.gate_up_proj')
  if (fused === missing || source.shape(fused) === undefined) return
  throw new UnsupportedError(
    `${missing}: no such tensor in the checkpoint, which has ${fused}: tensors that fuse all experts of a block are not ` +
      'read. Load the model with transformers and save it with save_pretrained(folder, save_original_format=True)',
  )
}

function refuseNamesOfBaseModel(source: WeightSource, missing: string): void {
  const [prefix] = /^[^.]+\.(?=.*\.)/.exec(missing) ?? ['']
  const found = missing.slice(prefix.length)
  if (prefix === '' || source.shape(found) === undefined) return
  throw new CheckpointError(
    `${missing}: no such tensor in the checkpoint, which has ${found}: its names lack ${prefix} in front, as of a base ` +
      'model that was saved alone. Where its head is stored too or is the embedding, load it with AutoModelForCausalLM ' +
      'of transformers and save it again; else give the folder of the whole model',
  )
}

/**
 * Reads a tensor of a known shape.
 *
 * @returns its values, row-major
 * @throws CheckpointError when it is missing or of another shape
 * @throws NumericError when a value is NaN or infinite
 */
export async function readTensor(
  source: WeightSource,
  name: string,
  shape: readonly number[],
  why: string,
): Promise<Float32Array> {
  assertTensorShape(source, name, shape, why)
  const data = await source.floats(name)
  const cols = shape[shape.length - 1]
  assertFinite(matrix(data.length / cols, cols, data), name)
  return data
}

/** Reads rows of a 2-D tensor whose shape was checked. Throws NumericError when a value is NaN or infinite. */
export async function readRows(
  source: WeightSource,
  name: string,
  first: number,
  count: number,
): Promise<Float32Array> {
  const data = await source.rows(name, first, count)
  assertFinite(matrix(count, data.length / count, data), `${name} from row ${first}`)
  return data
}
