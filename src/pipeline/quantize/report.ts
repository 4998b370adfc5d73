import type { Checkpoint } from '../../checkpoint/checkpoint.js'
import type { StoredActivations } from '../../checkpoint/quantized/stored-activations.js'
import type { TuningReport } from '../../train/tuning/report.js'
import type { MixedReport } from '../mixed/report.js'
import { type LayerReport, totalBitsPerValue } from './layers/layer-report.js'
import type { PhaseSeconds } from './phase-seconds.js'
import type { QuantizationMethod } from './quantize-options.js'
import type { QuantizedModel } from './quantized-model.js'

/** What {@link quantizeModel} did. */
export interface QuantizationReport {
  /** The model's folder, as given. */
  readonly model: string
  /** The folder written, null when none was asked for. */
  readonly output: string | null
  /** The method used. */
  readonly method: QuantizationMethod
  /** The options in force, defaults included. */
  readonly settings: Readonly<Record<string, unknown>>
  /** Each quantized layer, in the order of the model. */
  readonly layers: readonly LayerReport[]
  /** Over all quantized weights, counted from their bytes. */
  readonly bitsPerValue: number
  /** Bytes of the quantized layers before and after. */
  readonly layerBytes: {
    /** In the model that was quantized. */
    readonly before: number
    /** All their stored arrays. */
    readonly after: number
  }
  /** Embedding and head, where they were quantized. */
  readonly ends: readonly LayerReport[]
  /** All tensors of the model, those that stay as they are too. */
  readonly wholeModel: {
    /** 8 * bytes / values. */
    readonly bitsPerValue: number
    /** Bytes before. */
    readonly before: number
    /** Bytes after. */
    readonly after: number
  }
  /** What was noticed about the model, and about settings that do not suit it. */
  readonly notes: readonly string[]
  /** Bytes of all files written, null when none were. */
  readonly outputBytes: number | null
  /** Null for a method without calibration. */
  readonly calibration: {
    /** Sequences used. */
    readonly sequences: number
    /** Tokens in each. */
    readonly length: number
    /** E.g. that fewer sequences than asked for fit the text. */
    readonly notes: readonly string[]
  } | null
  /** How activations are rounded where the model is run; null: not at all. */
  readonly activations: StoredActivations | null
  /** How the layers came to their bits; null where all have the same. */
  readonly mixed: MixedReport | null
  /** Null where the codebooks were not tuned. */
  readonly tuning: TuningReport | null
  /** Time that the work took, in seconds, reading and writing included. */
  readonly seconds: Readonly<PhaseSeconds> & {
    /** All of it. */
    readonly total: number
  }
}

/** Puts the report of a whole model together. */
export function quantizationReport(
  stated: Pick<QuantizationReport, 'model' | 'output' | 'method' | 'settings' | 'notes'>,
  { tensors }: Checkpoint,
  { layers, ends, calibration, activations, mixed, tuning, outputBytes, seconds }: QuantizedModel,
  total: number,
): QuantizationReport {
  const quantized = new Map([...layers, ...ends].map((layer) => [`${layer.name}.weight`, layer.bytes]))
  const all = [...tensors.values()]
  const sum = (values: readonly number[]) => values.reduce((whole, value) => whole + value, 0)
  const values = sum(all.map(({ shape }) => shape.reduce((product, size) => product * size, 1)))
  const after = sum(all.map(({ name, bytes }) => quantized.get(name) ?? bytes))
  return {
    ...stated,
    layers,
    ends,
    bitsPerValue: totalBitsPerValue(layers),
    layerBytes: {
      before: sum(layers.map(({ name }) => tensors.get(`${name}.weight`)!.bytes)),
      after: sum(layers.map(({ bytes }) => bytes)),
    },
    wholeModel: { bitsPerValue: (8 * after) / values, before: sum(all.map(({ bytes }) => bytes)), after },
    outputBytes,
    calibration: calibration
      ? { sequences: calibration.sequences.length, length: calibration.length, notes: calibration.notes }
      : null,
    activations: activations ?? null,
    tuning: tuning ?? null,
    mixed: mixed ?? null,
    seconds: { ...seconds, total },
  }
}
