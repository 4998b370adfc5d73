import { openCheckpoint } from '../../checkpoint/checkpoint.js'
import { type ModelPlace, placeOf } from '../../checkpoint/model-source.js'
import { readQuantization } from '../../checkpoint/quantized/quantization.js'
import type { ModuleRecord, VqRecord } from '../../checkpoint/quantized/quantized-config.js'
import { storedNames } from '../../checkpoint/quantized/quantized-tensors.js'
import { findTensor, type TensorInfo } from '../../checkpoint/tensor-source.js'

/** One tensor, or the tensors that one quantized layer is stored in. */
export interface InspectedWeight {
  /** Name of the tensor, or of the weight that a quantized layer stands for. */
  readonly name: string
  /** Sizes of the dimensions; rows x columns of a quantized layer. */
  readonly shape: readonly number[]
  /** The dtype, the type in a GGUF file, or for a quantized layer its settings, e.g. `'vq 2-D 2 bits'`. */
  readonly format: string
  /** Whether it is a quantized layer. */
  readonly quantized: boolean
  /** 8 * bytes / weights. */
  readonly bitsPerValue: number
  /** Bytes stored. */
  readonly bytes: number
  /** On the calibration activations; null where it was not measured. */
  readonly relativeError: number | null
}

/** What is stored in a model folder. */
export interface Inspection {
  /** The folder, as given. */
  readonly model: string
  /** E.g. `'LlamaForCausalLM'`. */
  readonly architecture: string
  /** The method, null for a plain model. */
  readonly method: string | null
  /** The options it was quantized with; empty for a plain model. */
  readonly settings: Readonly<Record<string, unknown>>
  /** Quantized layers, then all other tensors. */
  readonly weights: readonly InspectedWeight[]
  /** Over quantized layers; null when there are none. */
  readonly quantizedBitsPerValue: number | null
  /** What a person should know of the files beside the weights. */
  readonly notes: readonly string[]
  /** Bytes of all tensors. */
  readonly bytes: number
}

/**
 * Lists what a model folder holds, from its headers; a head that is tied to the embedding and stored too is compared with
 * it and not listed.
 *
 * @throws CheckpointError naming the file and what is wrong with it
 */
export async function inspectModel(place: ModelPlace): Promise<Inspection> {
  const checkpoint = await openCheckpoint(place)
  const model = placeOf(place)
  try {
    const quantization = readQuantization(checkpoint)
    const stored = new Set<string>()
    const weights: InspectedWeight[] = []
    for (const [module, record] of Object.entries(quantization?.modules ?? {})) {
      const names = storedNames(module, record)
      for (const name of names) stored.add(name)
      const parts = names.map((name) => findTensor(checkpoint.tensors, name, model))
      weights.push(quantizedWeight(module, record, parts))
    }
    const quantized = weights.slice()
    for (const tensor of checkpoint.tensors.values()) {
      if (!stored.has(tensor.name)) weights.push(plainWeight(tensor))
    }
    return {
      model,
      architecture: architectureOf(checkpoint.config),
      method: quantization?.method ?? null,
      settings: quantization?.settings ?? {},
      weights,
      quantizedBitsPerValue: quantized.length > 0 ? (8 * bytesOf(quantized)) / valuesOf(quantized) : null,
      notes: checkpoint.notes,
      bytes: bytesOf(weights),
    }
  } finally {
    await checkpoint.close()
  }
}

/** What a model calls itself: its architecture, or else the type of model. */
export function architectureOf({ architectures, model_type: modelType }: Record<string, unknown>): string {
  return String(Array.isArray(architectures) ? architectures[0] : (modelType ?? 'unknown'))
}

/** How a quantized layer is stored, in a few words. */
export function recordFormat(record: ModuleRecord): string {
  return record.format === 'vq'
    ? `vq ${record.vector_dim}-D, ${Number(record.bits.toFixed(2))} bits${scalesOf(record)}${record.permuted ? ', reordered' : ''}`
    : `scalar, ${record.bits} bits, group ${record.group_size}`
}

function quantizedWeight(
  module: string,
  record: ModuleRecord,
  parts: readonly TensorInfo[],
): InspectedWeight {
  const bytes = bytesOf(parts)
  const { shape } = record
  return {
    name: `${module}.weight`,
    shape,
    format: recordFormat(record),
    quantized: true,
    bitsPerValue: (8 * bytes) / (shape[0] * shape[1]),
    bytes,
    relativeError: record.relative_error,
  }
}

function scalesOf({ scale_block_size: size }: VqRecord): string {
  return size === undefined ? '' : `, scale per ${size}`
}

function plainWeight({ name, shape, dtype, bytes: read, stored }: TensorInfo): InspectedWeight {
  const bytes = stored?.bytes ?? read
  const format = stored?.type ?? dtype
  const values = shape.reduce((product, size) => product * size, 1)
  const bitsPerValue = values > 0 ? (8 * bytes) / values : 0
  return { name, shape, format, quantized: false, bitsPerValue, bytes, relativeError: null }
}

function bytesOf(weights: readonly { readonly bytes: number }[]): number {
  return weights.reduce((sum, { bytes }) => sum + bytes, 0)
}

function valuesOf(weights: readonly InspectedWeight[]): number {
  return weights.reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0)
}
