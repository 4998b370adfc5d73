import type { DecoderDescription } from '../../model/decoder/description.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import type { QuantizedLayer } from '../../packing/quantized-layer.js'
import type { QuantizedOutput } from '../folders/output.js'
import type { OnProgress } from '../progress.js'
import type { Journal } from '../resume/journal.js'
import type { EndTensor } from './end-tensors.js'
import type { LayerPlan } from './layer-plan.js'
import type { ActivationPlace } from './memory-bound.js'
import type { MethodSettings } from './quantize-options.js'

/** What all phases of quantizing a model share. */
export interface ModelRun {
  readonly model: string
  readonly config: DecoderDescription
  readonly weights: WeightSource
  readonly settings: MethodSettings
  readonly plan: LayerPlan
  readonly ends: readonly EndTensor[]
  readonly output: QuantizedOutput | undefined
  /** Where what is done is kept for a run that goes on with it. */
  readonly journal: Journal | undefined
  /** Seconds that the run has taken so far, those before an interruption among them. */
  elapsed(): number
  /** Where the activations go. */
  readonly activations: ActivationPlace | undefined
  readonly onProgress: OnProgress | undefined
  readonly onLayer: ((name: string, layer: QuantizedLayer) => void) | undefined
  readonly signal: AbortSignal | undefined
}
