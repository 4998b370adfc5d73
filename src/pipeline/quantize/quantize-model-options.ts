import { type ScalarGridOptions, scalarGridOptionNames } from '../../baselines/scalar-options.js'
import type { ModelPlace } from '../../checkpoint/model-source.js'
import type { OptionNames } from '../../common/check-option.js'
import { type VqOptions, vqOptionNames } from '../../gptvq/options.js'
import type { ProductsName } from '../../kernels/native/start-products.js'
import type { EngineName } from '../../model/ops/engine.js'
import type { QuantizedLayer } from '../../packing/quantized-layer.js'
import type { ModelTuningOptions } from '../../train/tuning/tune-model.js'
import { type ActivationOptions, activationOptionNames } from '../activations/options.js'
import type { SchemeOptions } from '../activations/scheme.js'
import type { CalibrationOptions } from '../calibrate/calibration.js'
import { type EqualizationOptions, equalizationOptionNames } from '../equalize/options.js'
import type { OutputOptions } from '../folders/output.js'
import type { MixedBitsOptions } from '../mixed/options.js'
import type { OnProgress } from '../progress.js'
import type { EndTensorOptions } from './end-tensors.js'
import type { LayerOrderOptions } from './layers/layer-order.js'
import type { LayerPlanOptions } from './layers/layer-plan.js'
import type { LayerReport } from './layers/layer-report.js'
import type { TeamOptions } from './layers/layer-team.js'
import type { QuantizationMethod } from './quantize-options.js'

/** What to quantize, how, and where to. The settings of GPTVQ are those of `quantizeLayer`. */
export interface QuantizeModelOptions
  extends Omit<VqOptions, 'bits'>,
    MixedBitsOptions,
    ScalarGridOptions,
    ActivationOptions,
    EqualizationOptions,
    SchemeOptions,
    CalibrationOptions,
    LayerOrderOptions,
    LayerPlanOptions,
    EndTensorOptions,
    ModelTuningOptions,
    ResumeOptions,
    MemoryOptions,
    OutputOptions,
    TeamOptions {
  /** A model folder in the Hugging Face layout, a GGUF file, or a name on the hub; or the files of a model. */
  model: ModelPlace
  /** The folder to write. Left out, nothing is written; `onLayer` still receives every layer. */
  output?: string
  /** Default `'gptvq'`. For `'gptq'` and `'rtn'` `groupSize` counts weights of a row that share a scale, default 128. */
  method?: QuantizationMethod
  /** What runs the forward pass, default `'auto'`. */
  engine?: EngineName
  /**
   * What multiplies matrices: the kernels of this package, or the system's BLAS, which is faster and gives other last
   * bits; see {@link startProducts}. For the whole process from now on; default `'wasm'`.
   */
  products?: ProductsName
  /** Threads of the kernels, for the whole process from now on; default `GPTVQ_THREADS`, else the cores there are. */
  threads?: number
  /** Receives what is being done and how much of it is done. */
  onProgress?: OnProgress
  /** Receives every layer as it is done, by the name of its weight, and what was measured of it. */
  onLayer?: (name: string, layer: QuantizedLayer, report: LayerReport) => void
  /** Stops the work; no output is written then, and what is kept for another run is said in the error. */
  signal?: AbortSignal
}

/** How a run deals with interruptions: its own, and one before it. */
export interface ResumeOptions {
  /**
   * Go on with what an interrupted run of the same options and inputs has left beside `output`; where there is nothing,
   * begin. Default false: then leftovers are an error. The result is byte for byte that of a run without interruption.
   */
  resume?: boolean
  /**
   * What a run that is interrupted or fails leaves. `'keep'`, the default: layers done and the activations behind the
   * last finished block, in a folder `.NAME.unfinished` beside `output`, rewritten block by block. `'discard'`: nothing.
   * RTN, which takes little time, keeps nothing.
   */
  unfinished?: 'keep' | 'discard'
}

/** What of a run's memory can be chosen. */
export interface MemoryOptions {
  /**
   * Bytes that the process may have in memory, about: calibration activations for which there is no room lie on the disk
   * beside the output. The bytes of the result do not depend on it. Default: all in memory.
   */
  memory?: number
}

/** All names of {@link QuantizeModelOptions}. */
export const quantizeModelOptionNames: OptionNames<QuantizeModelOptions> = {
  ...vqOptionNames,
  ...scalarGridOptionNames,
  ...activationOptionNames,
  ...equalizationOptionNames,
  scheme: true,
  model: true,
  output: true,
  method: true,
  calibration: true,
  sequences: true,
  sequenceLength: true,
  layerOrder: true,
  driftCorrection: true,
  tokenWeights: true,
  skip: true,
  set: true,
  embeddingBits: true,
  headBits: true,
  embeddingMethod: true,
  headMethod: true,
  tuningEpochs: true,
  tuningSequences: true,
  force: 'switch',
  maxShardBytes: true,
  resume: 'switch',
  unfinished: true,
  memory: true,
  engine: true,
  products: true,
  redis: true,
  shared: true,
  threads: true,
  onProgress: true,
  onLayer: true,
  signal: true,
}
