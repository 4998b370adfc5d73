import type { ModelPlace } from '../../checkpoint/model-source.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import type { QuantizedLayer } from '../../packing/quantized-layer.js'
import type { ActivationSettings } from '../activations/options.js'
import type { Calibration } from '../calibrate/calibration.js'
import type { PlaceBatch } from '../calibrate/calibration-stream.js'
import type { StageRunner } from '../calibrate/stage-runner.js'
import type { QuantizedOutput } from '../folders/output.js'
import type { OnProgress } from '../progress.js'
import type { Journal } from '../resume/journal.js'
import type { EndTensor } from './end-tensors.js'
import type { LayerPlan } from './layers/layer-plan.js'
import type { LayerReport } from './layers/layer-report.js'
import type { LayerRunner } from './layers/layer-work.js'
import type { MethodSettings } from './quantize-options.js'

/** What all phases of quantizing a model share. */
export interface ModelRun {
  readonly model: ModelPlace
  readonly config: DecoderDescription
  readonly weights: WeightSource
  readonly settings: MethodSettings
  readonly plan: LayerPlan
  readonly ends: readonly EndTensor[]
  /** How activations are rounded; undefined: not at all. */
  readonly activations?: ActivationSettings | undefined
  /** The calibration sequences, where they are gathered already. */
  readonly calibration?: Calibration | undefined
  readonly output: QuantizedOutput | undefined
  /** Where what is done is kept for a run that goes on with it. */
  readonly journal: Journal | undefined
  /** Seconds that the run has taken so far, those before an interruption among them. */
  elapsed(): number
  /** Where the calibration tokens between two stages go; undefined: they stay in memory. */
  readonly place?: PlaceBatch | undefined
  readonly onProgress: OnProgress | undefined
  readonly onLayer: ((name: string, layer: QuantizedLayer, report: LayerReport) => void) | undefined
  /** Does the work of layers elsewhere; undefined: it is done here. */
  readonly runLayer?: LayerRunner | undefined
  /** Takes the calibration tokens through stages elsewhere; undefined: it is done here. */
  readonly runStage?: StageRunner | undefined
  readonly signal: AbortSignal | undefined
}
