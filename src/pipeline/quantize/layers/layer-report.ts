import type { DriftMove } from '../../../gptvq/drift-correction.js'
import { type BitsPerValue, bitsPerValue, packedBytes } from '../../../packing/bits-per-value.js'
import type { PackedQuantizedLayer } from '../../../packing/quantized-layer.js'

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
  /** Calibration tokens that it saw; null for a method without calibration. */
  readonly tokens: number | null
  /**
   * Share of its Hessian that comes from tokens routed elsewhere, where it belongs to an expert that saw few; null for
   * layers that see all tokens.
   */
  readonly pooled: number | null
  /** Share of its weights that are exactly zero in the model; null where it was not counted (embedding, head). */
  readonly zeros: number | null
  /** Time that quantizing it took. */
  readonly seconds: number
}

/** The report of one layer. */
export function layerReport(
  name: string,
  packed: PackedQuantizedLayer,
  measured: Pick<LayerReport, 'relativeError' | 'drift' | 'tokens' | 'pooled' | 'zeros' | 'seconds'>,
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
