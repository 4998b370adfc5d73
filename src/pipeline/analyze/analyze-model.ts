import { quantizeRtn } from '../../baselines/rtn.js'
import { fetchOptionsOf, placeOf, requireModel } from '../../checkpoint/model-source.js'
import { activationListener } from '../../checkpoint/quantized/stored-activations.js'
import { refuseUnknown } from '../../common/check-option.js'
import { CheckpointError, throwIfAborted } from '../../common/errors.js'
import { matrix } from '../../common/matrix.js'
import { setThreads } from '../../kernels/kernels.js'
import { allLinearLayers, type LinearLayer, linearLayers } from '../../model/decoder/linears.js'
import { readTensor, type WeightSource } from '../../model/decoder/weights.js'
import { startEngine } from '../../model/ops/engine.js'
import type { QuantizedLayer } from '../../packing/quantized-layer.js'
import { type ActivationPass, collectRanges, showActivations } from '../activations/collect-ranges.js'
import { isStatic, statedActivations, storedActivations } from '../activations/options.js'
import { readTokens } from '../calibrate/text-source.js'
import { scoreModels } from '../evaluate/evaluation.js'
import { cutWindows } from '../evaluate/windows.js'
import { type OpenModel, openModel, withQuantizedLayers } from '../folders/open-model.js'
import { type AnalyzeModelOptions, analyzeOptionNames, resolveTrial, type TrialSettings } from './options.js'
import { type InputRange, rangeOfValues, type TensorRange, watchInputs } from './tensor-ranges.js'

/** KL(full || rounded) in nats per token with one layer rounded and all others in full precision. */
export interface LayerSensitivity {
  /** Its weights are rounded. */
  readonly weights: number
  /** Its inputs are. */
  readonly activations: number
  /** Both are. */
  readonly both: number
}

/** One layer. */
export interface LayerAnalysis {
  /** The weight's name less `.weight`. */
  readonly name: string
  /** Outputs. */
  readonly rows: number
  /** Inputs. */
  readonly cols: number
  /** What its weights span. */
  readonly weights: TensorRange
  /** What its inputs span on the text; null where no token reached it. */
  readonly inputs: InputRange | null
  /** What rounding it does to the model's predictions. */
  readonly sensitivity: LayerSensitivity
}

/** What rounding does to a model, layer by layer. */
export interface ModelAnalysis {
  /** The model, as given. */
  readonly model: string
  /** How layers were rounded. */
  readonly settings: Readonly<Record<string, unknown>>
  /** In the order of the model. */
  readonly layers: readonly LayerAnalysis[]
  /** Of the model in full precision, on the same windows. */
  readonly perplexity: number
  /** Tokens per window. */
  readonly context: number
  /** Windows. */
  readonly windows: number
}

/** Share of the work that looking at ranges takes; for progress only. */
const RANGES_SHARE = 0.05

/**
 * Rounds each linear layer of a model alone, its weights, its inputs, and both, and measures how far the predictions move
 * on a text; and tells what weights and inputs span. It runs the model three times for each layer, over few windows.
 *
 * @throws OptionError, TextError, CheckpointError, UnsupportedError, NumericError, each naming what is wrong; AbortedError
 */
export async function analyzeModel(options: AnalyzeModelOptions): Promise<ModelAnalysis> {
  refuseUnknown(options, analyzeOptionNames)
  requireModel('model', options.model)
  const trial = resolveTrial(options)
  if (options.threads !== undefined) setThreads(options.threads)
  const model = await openModel(options.model, fetchOptionsOf(options))
  try {
    if (model.quantization !== undefined) {
      throw new CheckpointError(
        `${model.checkpoint.folder}: is quantized already; give the model it was made from, or undo it first with ` +
          '`gptvq dequantize`',
      )
    }
    return await analyze(model, trial, options)
  } finally {
    await model.close()
  }
}

async function analyze(
  model: OpenModel,
  trial: TrialSettings,
  options: AnalyzeModelOptions,
): Promise<ModelAnalysis> {
  const { source, config } = model
  const { onProgress, signal, windows: count = 4 } = options
  const context = options.context ?? Math.min(256, config.maxPositions)
  const tokens = await readTokens(options.text, options.model, config, signal)
  const windows = cutWindows(tokens, context, count, config.firstToken)
  await startEngine(options.engine)
  const watch = watchInputs()
  const calibration = { sequences: windows, length: context, notes: [] }
  const report = () => onProgress?.({ step: 'looking at ranges', done: 0 })
  const pass: ActivationPass = { source, config, calibration, onProgress: report, signal }
  await showActivations(pass, watch.onActivations)
  const inputs = watch.ranges()
  const stored = await storedFor(
    trial,
    pass,
    [...inputs.keys()].filter((name) => !/\.(keys|values)$/.test(name)),
  )
  const layers: LayerAnalysis[] = []
  let perplexity = Number.NaN
  const all = allLinearLayers(config).length
  for (const index of config.blocks.keys()) {
    const linears = linearLayers(config, index)
    const step = `rounding the layers of block ${index + 1} of ${config.blocks.length}, one by one`
    const progress = (done: number) =>
      onProgress?.({
        step,
        done: RANGES_SHARE + (1 - RANGES_SHARE) * ((layers.length + done * linears.length) / all),
      })
    const rounded = await roundLayers(source, linears, trial, signal)
    const candidates = linears.flatMap(({ name }) =>
      variantsOf(source, name, rounded.get(name)!.layer, stored),
    )
    const scores = await scoreModels({
      reference: model,
      candidates: candidates.map((own) => ({ source: own, config })),
      windows,
      onProgress: ({ done, total }) => progress(done / total),
      ...(signal && { signal }),
    })
    perplexity = scores.reference!.perplexity
    for (const [i, { name, rows, cols }] of linears.entries()) {
      const [weights, activations, both] = [0, 1, 2].map((at) => scores.candidates[3 * i + at].klDivergence!)
      const module = name.replace(/\.weight$/, '')
      layers.push({
        ...{ name: module, rows, cols },
        weights: rounded.get(name)!.range,
        inputs: inputs.get(module) ?? null,
        sensitivity: { weights, activations, both },
      })
    }
  }
  const settings = { ...trial.weights, ...statedActivations(trial.activations) }
  return { model: placeOf(options.model), settings, layers, perplexity, context, windows: windows.length }
}

async function storedFor({ activations }: TrialSettings, pass: ActivationPass, layers: readonly string[]) {
  const ranges = isStatic(activations) ? await collectRanges(pass, layers, activations) : undefined
  return storedActivations(activations, ranges)
}

/** Rounds layers, and tells what their weights span. */
async function roundLayers(
  source: WeightSource,
  linears: readonly LinearLayer[],
  { weights }: TrialSettings,
  signal: AbortSignal | undefined,
): Promise<Map<string, { layer: QuantizedLayer; range: TensorRange }>> {
  const rounded = new Map<string, { layer: QuantizedLayer; range: TensorRange }>()
  for (const { name, rows, cols } of linears) {
    throwIfAborted(signal)
    const values = await readTensor(source, name, [rows, cols], 'the shape of the layer')
    const layer = quantizeRtn(matrix(rows, cols, values), weights, name)
    rounded.set(name, { layer, range: rangeOfValues(values) })
  }
  return rounded
}

/** The model with one layer's weights rounded, with its inputs rounded, and with both. */
function variantsOf(
  source: WeightSource,
  name: string,
  layer: QuantizedLayer,
  stored: ReturnType<typeof storedActivations>,
): WeightSource[] {
  const weights = withQuantizedLayers(source, new Map([[name, layer]]))
  const onActivations = activationListener(stored, (module) => `${module}.weight` === name)
  return [weights, { ...source, onActivations }, { ...weights, onActivations }]
}
