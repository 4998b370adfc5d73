import { type Checkpoint, openCheckpoint } from '../../checkpoint/checkpoint.js'
import { type FetchOptions, fileIn, type ModelPlace, placeOf } from '../../checkpoint/model-source.js'
import { checkpointWeights } from '../../checkpoint/model-weights.js'
import type { QuantizationConfig } from '../../checkpoint/quantized/quantized-config.js'
import { requireFields } from '../../common/check-option.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import { describeDecoder } from '../../model/families/index.js'
import { dequantize, dequantizeRows, pack, type QuantizedLayer } from '../../packing/quantized-layer.js'
import { requireWholeModel } from './whole-model.js'

/** A model folder, plain or quantized, ready to be run; weights are read from disk when they are needed. */
export interface OpenModel {
  /** Its path, as given; of a source the place that errors name. */
  readonly folder: string
  /** Its architecture. */
  readonly config: DecoderDescription
  /** Weights as float32, quantized layers dequantized. */
  readonly source: WeightSource
  /** Undefined for a plain model. */
  readonly quantization: QuantizationConfig | undefined
  /** The tensors as they are stored. */
  readonly checkpoint: Checkpoint
  /** Closes the files; can be called again. */
  close(): Promise<void>
}

/**
 * Opens a model folder.
 *
 * @param options for a model that has to be fetched from the hub: receives how far that is, and stops it
 * @throws CheckpointError, UnsupportedError naming the file and what is wrong with it; OptionError; AbortedError
 */
export async function openModel(model: ModelPlace, options: FetchOptions = {}): Promise<OpenModel> {
  const checkpoint = await openCheckpoint(model, options)
  try {
    const config = describeDecoder(checkpoint.config, fileIn(checkpoint.files, 'config.json'))
    const weights = checkpointWeights(checkpoint)
    requireWholeModel(checkpoint, config, weights.quantization)
    return {
      folder: placeOf(model),
      config,
      source: weights,
      quantization: weights.quantization,
      checkpoint,
      close: checkpoint.close,
    }
  } catch (error) {
    await checkpoint.close()
    throw error
  }
}

/**
 * The weights of a model with some layers replaced by quantized ones that are still in memory.
 *
 * @param layers by the name of the weight, as `quantizeModel` hands them to `onLayer`
 */
export function withQuantizedLayers(
  source: WeightSource,
  layers: ReadonlyMap<string, QuantizedLayer>,
): WeightSource {
  requireFields({ source, layers }, 'a source of weights and a Map of layers', ['source', 'layers'])
  return {
    shape: source.shape,
    onActivations: source.onActivations,
    async floats(name) {
      const layer = layers.get(name)
      return layer ? dequantize(layer).data : source.floats(name)
    },
    async rows(name, first, count) {
      const layer = layers.get(name)
      if (!layer) return source.rows(name, first, count)
      return dequantizeRows(layer, first, count)
    },
    async packed(name) {
      const layer = layers.get(name)
      return layer ? pack(layer) : source.packed?.(name)
    },
  }
}
