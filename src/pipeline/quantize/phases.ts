import type { StoredActivations } from '../../checkpoint/quantized/stored-activations.js'
import { throwIfAborted } from '../../common/errors.js'
import type { QuantizedLayer } from '../../packing/quantized-layer.js'
import type { VqLayer } from '../../packing/vq-layer.js'
import { assertTunableOn, tuneModel } from '../../train/tuning/tune-model.js'
import { collectRanges } from '../activations/collect-ranges.js'
import { type ActivationSettings, isStatic, storedActivations } from '../activations/options.js'
import { type Calibration, type CalibrationOptions, gatherCalibration } from '../calibrate/calibration.js'
import { collectHeadStatistics } from '../calibrate/statistics/head-statistics.js'
import { withQuantizedLayers } from '../folders/open-model.js'
import { type SharedBudget, shareBudget } from '../mixed/share-budget.js'
import { type PartProgress, partOf } from '../progress.js'
import {
  calibrationOf,
  keepBudget,
  keepEnds,
  keepSensitivity,
  keptBudget,
  keptEnds,
  keptSensitivity,
  type SavedLayer,
} from '../resume/kept.js'
import { stopwatch } from '../stopwatch.js'
import { quantizeBlocks } from './all-blocks.js'
import { seesText } from './end-tensors.js'
import type { LayerReport } from './layers/layer-report.js'
import type { ModelRun } from './model-run.js'
import { NO_TIME } from './phase-seconds.js'
import type { OnQuantized } from './quantize-block.js'
import { quantizeEndTensors } from './quantize-ends.js'
import { isCalibrated } from './quantize-options.js'
import type { QuantizedModel } from './quantized-model.js'

/** Shares of the whole work, for progress only: of writing a text for calibration, where the model does, */
const SAMPLING_SHARE = 0.15
/** of embedding and head, where they see that text, */
const ENDS_SHARE = 0.2
/** of measuring the sensitivity of layers, where it is done, */
const SENSITIVITY_SHARE = 0.5
/** and of tuning the codebooks, where it is done. */
const TUNING_SHARE = 0.6
/** Share of running the calibration text through the model in quantizing embedding and head; for progress only. */
const HEAD_PASS_SHARE = 0.4
/** What is done when the ranges of activations are looked for. */
const RANGES_DONE = 1

/** Calibration, embedding and head, the budget of bits, the blocks, tuning, and the written folder, in this order. */
export async function quantizePhases(
  run: ModelRun,
  options: CalibrationOptions & { readonly seed?: number },
): Promise<QuantizedModel> {
  const { settings, onProgress } = run
  const tuning = settings.method === 'gptvq' && settings.tuning.tuningEpochs > 0 ? settings.tuning : undefined
  const blocksLook = isCalibrated(settings) || isStatic(run.activations) || run.calibration !== undefined
  const looksAtText = blocksLook || run.ends.some(seesText)
  const sampled =
    looksAtText && run.calibration === undefined && options.calibration === undefined ? SAMPLING_SHARE : 0
  const end = tuning ? 1 - TUNING_SHARE : 1
  const seconds = { ...NO_TIME, ...run.journal?.state.seconds }
  const layers: LayerReport[] = []
  const ends: LayerReport[] = []
  const lap = stopwatch()

  const calibration =
    run.calibration ??
    (looksAtText ? await calibrate(run, options, partOf(onProgress, 0, sampled)) : undefined)
  seconds.calibration += lap()
  if (tuning && calibration) assertTunableOn(run.config, calibration, tuning)

  // first of all that is quantized: a damaged embedding is found before hours of work, not behind them
  const begin = run.ends.some(seesText) ? sampled + ENDS_SHARE * (end - sampled) : sampled
  const quantizedEnds = new Map<string, QuantizedLayer>()
  const inEnds = partOf(onProgress, sampled, begin)
  for (const { layer, report } of await quantizeEnds(run, calibration, options.seed ?? 0, inEnds)) {
    const name = `${report.name}.weight`
    quantizedEnds.set(name, layer)
    ends.push(report)
    await hand(run, name, layer, report)
  }
  seconds.quantization += lap()

  const budget = settings.method === 'gptvq' ? settings.budget : undefined
  const start = budget === undefined ? begin : begin + SENSITIVITY_SHARE * (end - begin)
  const mixed = calibration && (await shareBits(run, calibration, budget, partOf(onProgress, begin, start)))
  if (mixed) seconds.sensitivity += lap()

  // the ranges of activations are those of the whole quantized model
  const kept = new Map<string, QuantizedLayer>()
  const untuned = new Map<string, VqLayer>()
  const deliver: OnQuantized = async ({ name }, layer, report) => {
    layers.push(report)
    if (tuning && 'layout' in layer) untuned.set(name, layer)
    else await hand(run, name, layer, report, kept)
  }
  const inBlocks = partOf(onProgress, start, end)
  const layerBits = mixed?.layers
  await quantizeBlocks({
    run,
    ends: quantizedEnds,
    calibration: blocksLook ? calibration : undefined,
    layerBits,
    deliver,
    onProgress: inBlocks,
    seconds,
  })

  lap()
  const tuned =
    tuning && calibration
      ? await tuneModel(
          {
            ...run,
            layers: untuned,
            calibration,
            seed: options.seed ?? 0,
            onProgress: partOf(onProgress, end, 1),
          },
          tuning,
        )
      : undefined
  for (const [name, layer] of tuned?.layers ?? []) {
    await hand(run, name, layer, layers.find((report) => `${report.name}.weight` === name)!, kept)
  }
  if (tuned) seconds.tuning += lap()

  const activations = run.activations && (await roundingOf(run, run.activations, calibration, kept))
  seconds.calibration += lap()
  const outputBytes = await finish(run, activations)
  const { report } = mixed ?? {}
  return {
    layers,
    ends,
    calibration,
    mixed: report,
    tuning: tuned?.report,
    activations,
    outputBytes,
    seconds,
  }
}

/** Embedding and head, quantized now or before an interruption. */
async function quantizeEnds(
  run: ModelRun,
  calibration: Calibration | undefined,
  seed: number,
  onProgress: PartProgress,
): Promise<SavedLayer[]> {
  const { weights, config, ends: tensors, journal, place, runLayer, signal } = run
  const kept = await keptEnds(journal)
  if (kept) return kept
  const headInputs = () => {
    const report = (done: number) => onProgress('looking at what the head sees', HEAD_PASS_SHARE * done)
    return collectHeadStatistics({
      weights,
      config,
      calibration: calibration!,
      place,
      signal,
      onProgress: report,
    })
  }
  const inTensors: PartProgress = (step, done) =>
    onProgress(step, tensors.some(seesText) ? HEAD_PASS_SHARE + (1 - HEAD_PASS_SHARE) * done : done)
  const done: SavedLayer[] = []
  await quantizeEndTensors(
    { weights, tensors, seed, headInputs, runLayer, signal, onProgress: inTensors },
    async (_, layer, report) => {
      done.push({ layer, report })
    },
  )
  if (tensors.some(seesText)) await keepEnds(journal, done)
  return done
}

async function hand(
  { onLayer, output, activations }: ModelRun,
  name: string,
  layer: QuantizedLayer,
  report: LayerReport,
  kept?: Map<string, QuantizedLayer>,
): Promise<void> {
  if (isStatic(activations)) kept?.set(name, layer)
  onLayer?.(name, layer, report)
  await output?.addLayer(report.name, layer, report)
}

function calibrate(
  { model, weights, config, journal, signal }: ModelRun,
  options: CalibrationOptions,
  onProgress: PartProgress,
): Promise<Calibration> {
  const sampling = (done: number, total: number) =>
    onProgress('writing calibration text with the model', done / total)
  const gather = async () => {
    const gathered = await gatherCalibration(options, model, weights, config, sampling, signal)
    // what was stopped while it was written is not kept
    throwIfAborted(signal)
    return gathered
  }
  return calibrationOf(journal, gather, options.calibration === undefined)
}

async function shareBits(
  { weights, config, settings, plan, journal, signal }: ModelRun,
  { sequences }: Calibration,
  bpv: number | undefined,
  onProgress: PartProgress,
): Promise<SharedBudget | undefined> {
  if (settings.method !== 'gptvq' || bpv === undefined) return undefined
  const kept = keptBudget(journal)
  if (kept) return kept
  const { options } = settings
  const shared = await shareBudget({
    source: weights,
    config,
    linears: plan.linears,
    sequences,
    options,
    bpv,
    tokenWeights: settings.order.tokenWeights,
    onProgress,
    signal,
    begun: keptSensitivity(journal),
    onBlock: (state) => keepSensitivity(journal, state),
  })
  await keepBudget(journal, shared)
  return shared
}

/** How activations are rounded, with the ranges that the quantized model has on the calibration text. */
async function roundingOf(
  { weights, config, onProgress, signal }: ModelRun,
  settings: ActivationSettings,
  calibration: Calibration | undefined,
  layers: ReadonlyMap<string, QuantizedLayer>,
): Promise<StoredActivations> {
  if (!isStatic(settings) || calibration === undefined) return storedActivations(settings, undefined)
  const source = withQuantizedLayers(weights, layers)
  const report = (done: number) => onProgress?.({ step: 'finding the ranges of activations', done })
  const names = Array.from(layers.keys(), (name) => name.replace(/\.weight$/, ''))
  const pass = { source, config, calibration, signal, onProgress: () => report(RANGES_DONE) }
  return storedActivations(settings, await collectRanges(pass, names, settings))
}

/** Writes the folder's end. @returns the bytes of all files, null when none are written */
async function finish(
  { output, onProgress, signal }: ModelRun,
  activations: StoredActivations | undefined,
): Promise<number | null> {
  onProgress?.({ step: output ? `writing ${output.folder}` : 'done', done: 1 })
  throwIfAborted(signal)
  const written = await output?.finish(activations)
  return written?.bytes ?? null
}
