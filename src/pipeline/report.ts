import type { DriftMove } from '../gptvq/drift-correction.js'
import { type BitsPerValue, bitsPerValue, packedBytes } from '../packing/bits-per-value.js'
import type { PackedQuantizedLayer } from '../packing/quantized-layer.js'
import type { MixedReport } from './mixed/report.js'
import type { QuantizationMethod } from './quantize-options.js'
import type { TuningReport } from './tuning/report.js'

/** What became of one layer. */
export interface LayerReport {
  /** The weight's name less `.weight`. */
  readonly name: string
  /** Outputs. */
  readonly rows: number
  /** Inputs. */
  readonly cols: number
  /** What its bits are spent on. */
  readonly bitsPerValue: BitsPerValue
  /** Bytes of its packed arrays. */
  readonly bytes: number
  /**
   * `tr((W-Q) H (W-Q)^T) / tr(W H W^T)` on the calibration activations for the weights `W` that the layer was quantized
   * towards: those of the model, corrected for drift; before tuning. Null for a method without calibration.
   */
  readonly relativeError: number | null
  /** How far its weights were moved to make up for drift; null where drift was not corrected. */
  readonly drift: DriftMove | null
  /** Time that quantizing it took. */
  readonly seconds: number
}

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
  /** How the layers came to their bits; null where all have the same. */
  readonly mixed: MixedReport | null
  /** Null where the codebooks were not tuned. */
  readonly tuning: TuningReport | null
  /** Time that the parts took, in seconds. */
  readonly seconds: {
    /** Gathering calibration text, and running it through the blocks. */
    readonly calibration: number
    /** Of the layers, where their bits are chosen by it; trials included. */
    readonly sensitivity: number
    /** Quantizing the layers. */
    readonly quantization: number
    /** Tuning the codebooks of all layers together; 0 without. */
    readonly tuning: number
    /** All of it, reading and writing included. */
    readonly total: number
  }
}

/** The report of one layer. */
export function layerReport(
  name: string,
  packed: PackedQuantizedLayer,
  measured: Pick<LayerReport, 'relativeError' | 'drift' | 'seconds'>,
): LayerReport {
  const { rows, cols } = 'layout' in packed ? packed.layout : packed
  const bytes = packedBytes(packed)
  return { name, rows, cols, bitsPerValue: bitsPerValue(packed), bytes, ...measured }
}

/** Bits per value over several layers: all their bytes over all their weights. */
export function totalBitsPerValue(layers: readonly LayerReport[]): number {
  const bytes = layers.reduce((sum, layer) => sum + layer.bytes, 0)
  const weights = layers.reduce((sum, layer) => sum + layer.rows * layer.cols, 0)
  return (8 * bytes) / weights
}
