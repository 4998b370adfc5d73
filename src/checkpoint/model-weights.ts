import type { OnActivations } from '../model/decoder/weights.js'
import {
  dequantize,
  dequantizeRows,
  type PackedQuantizedLayer,
  type QuantizedLayer,
  requirePacked,
} from '../packing/quantized-layer.js'
import type { Checkpoint } from './checkpoint.js'
import { readQuantization } from './quantized/quantization.js'
import type { ModuleRecord, QuantizationConfig } from './quantized/quantized-config.js'
import { fitting, readPackedLayer, readQuantizedLayer } from './quantized/quantized-tensors.js'
import { activationListener } from './quantized/stored-activations.js'
import { requireFloats } from './tensor-source.js'

/** The weights of a checkpoint as float32, whether it is quantized or plain; layers are dequantized when asked for. */
export interface CheckpointWeights {
  /** Undefined for a plain checkpoint. */
  readonly quantization: QuantizationConfig | undefined
  /** The shape of a tensor, undefined when there is none of that name. Throws CheckpointError when it holds no floats. */
  shape(name: string): readonly number[] | undefined
  /** A whole tensor, row-major. */
  floats(name: string): Promise<Float32Array>
  /** Rows `first` to `first + count - 1` of a 2-D tensor. */
  rows(name: string, first: number, count: number): Promise<Float32Array>
  /** A quantized layer as it is stored; undefined for a plain tensor. */
  packed(name: string): Promise<PackedQuantizedLayer | undefined>
  /** Rounds activations as the folder says; undefined where they stay as they are. */
  readonly onActivations?: OnActivations
}

/** Reads plain tensors and quantized layers by the names that the plain model has. */
export function checkpointWeights(checkpoint: Checkpoint): CheckpointWeights {
  const quantization = readQuantization(checkpoint)
  const records = new Map<string, ModuleRecord>()
  for (const [module, record] of Object.entries(quantization?.modules ?? {})) {
    records.set(`${module}.weight`, record)
  }
  const { activations } = quantization ?? {}
  const moduleOf = (name: string) => name.slice(0, -'.weight'.length)
  const layerOf = (name: string, record: ModuleRecord) =>
    readQuantizedLayer(checkpoint, moduleOf(name), record)
  // rows are asked for run by run: of an embedding, or of a head
  let last: { readonly name: string; readonly layer: Promise<QuantizedLayer> } | undefined
  return {
    quantization,
    ...(activations && {
      onActivations: activationListener(activations, (layer) => records.has(`${layer}.weight`)),
    }),
    shape(name) {
      const record = records.get(name)
      if (record) return record.shape
      const info = checkpoint.tensors.get(name)
      // a model that cannot be run is found out before the work begins, and not when this tensor's turn comes
      if (info) requireFloats(info)
      return info?.shape
    },
    async floats(name) {
      const record = records.get(name)
      return record ? dequantize(await layerOf(name, record)).data : checkpoint.readFloats(name)
    },
    async rows(name, first, count) {
      const record = records.get(name)
      if (!record) return checkpoint.readRows(name, first, count)
      if (last?.name !== name) last = { name, layer: layerOf(name, record) }
      return dequantizeRows(await last.layer, first, count)
    },
    async packed(name) {
      const record = records.get(name)
      if (!record) return undefined
      const module = moduleOf(name)
      const layer = await readPackedLayer(checkpoint, module, record)
      fitting(module, () => requirePacked(layer))
      return layer
    },
  }
}
