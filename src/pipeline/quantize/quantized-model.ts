import type { StoredActivations } from '../../checkpoint/quantized/stored-activations.js'
import type { TuningReport } from '../../train/tuning/report.js'
import type { Calibration } from '../calibrate/calibration.js'
import type { MixedReport } from '../mixed/report.js'
import type { LayerReport } from './layers/layer-report.js'
import type { PhaseSeconds } from './phase-seconds.js'

/** What the phases came to. */
export interface QuantizedModel {
  readonly layers: readonly LayerReport[]
  /** Embedding and head, where they were quantized. */
  readonly ends: readonly LayerReport[]
  readonly calibration: Calibration | undefined
  readonly mixed: MixedReport | undefined
  readonly tuning: TuningReport | undefined
  readonly activations: StoredActivations | undefined
  readonly outputBytes: number | null
  readonly seconds: PhaseSeconds
}
