import { type ScalarGridOptions, scalarGridOptionNames } from '../../baselines/scalar-options.js'
import { type OptionNames, refuseUnknown, requirePath } from '../../check-option.js'
import { type Checkpoint, openCheckpoint } from '../../checkpoint/checkpoint.js'
import { fileIn, type ModelPlace, placeOf, requireModel } from '../../checkpoint/model-source.js'
import { checkpointWeights } from '../../checkpoint/model-weights.js'
import { CheckpointError, orNothingWritten } from '../../errors.js'
import { type VqOptions, vqOptionNames } from '../../gptvq/options.js'
import { setThreads } from '../../kernels/kernels.js'
import { type ProductsName, startProducts } from '../../kernels/native/start-products.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import { describeDecoder } from '../../model/families/index.js'
import { type EngineName, startEngine } from '../../model/ops/engine.js'
import type { QuantizedLayer } from '../../packing/quantized-layer.js'
import type { ModelTuningOptions } from '../../train/tuning/tune-model.js'
import {
  type ActivationOptions,
  activationOptionNames,
  isStatic,
  resolveActivations,
} from '../activations/options.js'
import { type SchemeOptions, withScheme } from '../activations/scheme.js'
import { type Calibration, type CalibrationOptions, gatherCalibration } from '../calibrate/calibration.js'
import { equalizeModel } from '../equalize/equalize-model.js'
import {
  type EqualizationOptions,
  equalizationOptionNames,
  resolveEqualization,
  statedEqualization,
} from '../equalize/options.js'
import type { OutputOptions, QuantizedOutput } from '../folders/output.js'
import { requireWholeModel } from '../folders/whole-model.js'
import type { MixedBitsOptions } from '../mixed/options.js'
import type { OnProgress } from '../progress.js'
import { stopwatch } from '../stopwatch.js'
import { beginOutput } from './begin-output.js'
import { checkModel } from './check-model.js'
import { type EndTensorOptions, endTensors } from './end-tensors.js'
import type { LayerOrderOptions } from './layer-order.js'
import { type LayerPlanOptions, planLayers } from './layer-plan.js'
import type { LayerReport } from './layer-report.js'
import { type LayerTeam, openTeam, type TeamOptions } from './layer-team.js'
import { type ModelRun, quantizePhases } from './phases.js'
import { defaultBits, isCalibrated, type QuantizationMethod, resolveMethod } from './quantize-options.js'
import { type QuantizationReport, quantizationReport } from './report.js'
import { statedSettings } from './stated-settings.js'

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
  /** Stops the work; nothing is written then. */
  signal?: AbortSignal
}

const optionNames: OptionNames<QuantizeModelOptions> = {
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
  skip: true,
  set: true,
  embeddingBits: true,
  headBits: true,
  tuningEpochs: true,
  tuningSequences: true,
  force: true,
  maxShardBytes: true,
  engine: true,
  products: true,
  redis: true,
  shared: true,
  threads: true,
  onProgress: true,
  onLayer: true,
  signal: true,
}

/**
 * Quantizes the linear layers of a model block by block: the Hessians of a block come from calibration activations
 * that flowed through the quantized blocks before it. In memory at a time: one block (of its experts one), the
 * activations between two blocks, and the Hessians of one block.
 *
 * Norms and routers keep their bytes, and unless told otherwise embeddings and head. The same options and files give the
 * same bytes.
 *
 * @throws OptionError, TextError, CheckpointError, UnsupportedError, NumericError, each naming what is wrong;
 *   AbortedError when `signal` fires. On any of them nothing is written and what was there before is kept
 */
export async function quantizeModel(options: QuantizeModelOptions): Promise<QuantizationReport> {
  refuseUnknown(options, optionNames)
  requireModel('model', options.model)
  if (options.output !== undefined) requirePath('output', options.output)
  return options.output === undefined ? quantize(options) : orNothingWritten(() => quantize(options))
}

async function quantize(given: QuantizeModelOptions): Promise<QuantizationReport> {
  const total = stopwatch()
  const options = withScheme(given)
  const model = placeOf(options.model)
  const method = options.method ?? 'gptvq'
  const settings = resolveMethod(method, { ...options, bits: defaultBits(method, options) })
  const activations = resolveActivations(options)
  const equalizing = resolveEqualization(options)
  if (options.threads !== undefined) setThreads(options.threads)
  const products = await startProducts(options.products)
  const checkpoint = await openCheckpoint(options.model)
  let output: QuantizedOutput | undefined
  let team: LayerTeam | undefined
  try {
    const notes: string[] = []
    const config = describeDecoder(checkpoint.config, fileIn({ place: model }, 'config.json'), notes)
    const plain = plainWeights(checkpoint)
    requireWholeModel(checkpoint, config, undefined)
    const plan = planLayers(config, settings, options)
    const ends = endTensors(config, options)
    const stated = {
      ...statedSettings(settings, activations, options),
      ...statedEqualization(equalizing),
    }
    const isSmooth = equalizing.equalization === 'smoothquant'
    const looksAtText = isCalibrated(settings) || isStatic(activations) || isSmooth
    checkModel(plain, config, plan, settings.method === 'gptvq' ? settings.budget : undefined)
    const engine = looksAtText ? await startEngine(options.engine) : null
    team = await openTeam(options, products)
    const { onLayer, signal } = options
    const onProgress = withTeam(options.onProgress, team)
    const { weights, changed, calibration } = await equalizedModel(options, plain, config, equalizing)
    if (options.output !== undefined) {
      const replaced = new Set([...plan.linears, ...ends].map(({ name }) => name))
      const { method } = settings
      const made = { method, stated, engine, products, changed: { names: changed, floats: weights.floats } }
      output = await beginOutput(options.output, checkpoint, replaced, made, given)
    }
    const run: ModelRun = {
      model: options.model,
      config,
      weights,
      settings,
      plan,
      ends,
      activations,
      calibration,
      output,
      onProgress,
      onLayer,
      runLayer: team?.runLayer,
      signal,
    }
    const done = await quantizePhases(run, options)
    return quantizationReport(
      {
        model,
        output: options.output ?? null,
        method: settings.method,
        settings: stated,
        notes,
      },
      checkpoint,
      done,
      total(),
    )
  } finally {
    await team?.close()
    await output?.discard()
    await checkpoint.close()
  }
}

/** Says how it stands with workers and jobs beside what is done. */
function withTeam(onProgress: OnProgress | undefined, team: LayerTeam | undefined): OnProgress | undefined {
  if (onProgress === undefined || team === undefined) return onProgress
  return ({ step, done }) => {
    const isAway = step.includes('quantizing ')
    onProgress({ step: isAway ? `${step} (${team.describe()})` : step, done })
  }
}

/** The model that layers are rounded of, and the calibration sequences where they were needed for it. */
async function equalizedModel(
  options: QuantizeModelOptions,
  source: WeightSource,
  config: DecoderDescription,
  settings: Required<EqualizationOptions>,
): Promise<{ weights: WeightSource; changed: ReadonlySet<string>; calibration: Calibration | undefined }> {
  const { onProgress, signal } = options
  const { equalization } = settings
  if (equalization === 'none') return { weights: source, changed: new Set(), calibration: undefined }
  const report = () => onProgress?.({ step: 'equalizing', done: 0 })
  const calibration =
    equalization === 'smoothquant'
      ? await gatherCalibration(options, options.model, source, config, report, signal)
      : undefined
  const task = { source, config, calibration, onProgress: report, signal }
  const { source: weights, changed } = await equalizeModel(task, settings)
  return { weights, changed, calibration }
}

function plainWeights(checkpoint: Checkpoint): WeightSource {
  const weights = checkpointWeights(checkpoint)
  if (weights.quantization === undefined) return weights
  throw new CheckpointError(
    `${checkpoint.folder}: is quantized already (method ${weights.quantization.method}); ` +
      'give the model it was made from, or undo it first with `gptvq dequantize`',
  )
}
