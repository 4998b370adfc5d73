import { join } from 'node:path'
import { CheckpointError } from '../errors.js'
import { dequantize } from '../packing/quantized-layer.js'
import type { Checkpoint } from './checkpoint.js'
import { type ModuleRecord, parseQuantizationConfig, type QuantizationConfig } from './quantized-config.js'
import { readQuantizedLayer } from './quantized-tensors.js'

/** The weights of a checkpoint as float32, whether it is quantized or plain; layers are dequantized when asked for. */
export interface CheckpointWeights {
  /** Undefined for a plain checkpoint. */
  readonly quantization: QuantizationConfig | undefined
  /** The shape of a tensor, undefined when there is none of that name. */
  shape(name: string): readonly number[] | undefined
  /** A whole tensor, row-major. */
  floats(name: string): Promise<Float32Array>
  /** Rows `first` to `first + count - 1` of a 2-D tensor. */
  rows(name: string, first: number, count: number): Promise<Float32Array>
}

/** Reads plain tensors and quantized layers by the names that the plain model has. */
export function checkpointWeights(checkpoint: Checkpoint): CheckpointWeights {
  const quantization = parseQuantizationConfig(checkpoint.config, join(checkpoint.folder, 'config.json'))
  const records = new Map<string, ModuleRecord>()
  for (const [module, record] of Object.entries(quantization?.modules ?? {})) {
    if (checkpoint.tensors.has(`${module}.weight`)) {
      throw new CheckpointError(
        `${checkpoint.folder}: ${module} is stored both quantized and plain; expected one of the two. Quantize the model again`,
      )
    }
    records.set(`${module}.weight`, record)
  }
  const floats = async (name: string) => {
    const record = records.get(name)
    if (!record) return checkpoint.readFloats(name)
    return dequantize(await readQuantizedLayer(checkpoint, name.slice(0, -'.weight'.length), record)).data
  }
  return {
    quantization,
    shape: (name) => records.get(name)?.shape ?? checkpoint.tensors.get(name)?.shape,
    floats,
    async rows(name, first, count) {
      const record = records.get(name)
      if (!record) return checkpoint.readRows(name, first, count)
      const cols = record.shape[1]
      return (await floats(name)).slice(first * cols, (first + count) * cols)
    },
  }
}
