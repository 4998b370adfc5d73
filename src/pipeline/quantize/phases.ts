import { throwIfAborted } from '../../errors.js'
import type { QuantizedLayer } from '../../packing/quantized-layer.js'
import type { VqLayer } from '../../packing/vq-layer.js'
import { type Calibration, type CalibrationOptions, gatherCalibration } from '../calibrate/calibration.js'
import type { MixedReport } from '../mixed/report.js'
import { type SharedBudget, shareBudget } from '../mixed/share-budget.js'
import { type PartProgress, partOf } from '../progress.js'
import { keepBudget, keepSensitivity, keptBudget, keptSensitivity } from '../resume/saved-budget.js'
import { calibrationOf } from '../resume/saved-calibration.js'
import { stopwatch } from '../stopwatch.js'
import type { TuningReport } from '../tuning/report.js'
import { assertTunableOn, tuneModel } from '../tuning/tune-model.js'
import { quantizeBlocks } from './all-blocks.js'
import { quantizeEndTensors } from './end-tensors.js'
import type { LayerReport } from './layer-report.js'
import type { ModelRun } from './model-run.js'
import { NO_TIME, type PhaseSeconds } from './phase-seconds.js'
import type { OnQuantized } from './quantize-block.js'

/** What the phases came to. */
export interface QuantizedModel {
  readonly layers: readonly LayerReport[]
  /** Embedding and head, where they were quantized. */
  readonly ends: readonly LayerReport[]
  readonly calibration: Calibration | undefined
  readonly mixed: MixedReport | undefined
  readonly tuning: TuningReport | undefined
  readonly outputBytes: number | null
  readonly seconds: PhaseSeconds
}

/** Shares of the whole work, for progress only: of writing a text for calibration, where the model does, */
const SAMPLING_SHARE = 0.15
/** of measuring the sensitivity of layers, where it is done, */
const SENSITIVITY_SHARE = 0.5
/** and of tuning the codebooks, where it is done. */
const TUNING_SHARE = 0.6

/** Calibration, embedding and head, the budget of bits, the blocks, tuning, and the written folder, in this order. */
export async function quantizePhases(
  run: ModelRun,
  options: CalibrationOptions & { readonly seed?: number },
): Promise<QuantizedModel> {
  const { settings, onProgress } = run
  const tuning = settings.method === 'gptvq' && settings.tuning.tuningEpochs > 0 ? settings.tuning : undefined
  const sampled = settings.method !== 'rtn' && options.calibration === undefined ? SAMPLING_SHARE : 0
  const end = tuning ? 1 - TUNING_SHARE : 1
  const seconds = { ...NO_TIME, ...run.journal?.state.seconds }
  const layers: LayerReport[] = []
  const ends: LayerReport[] = []
  const lap = stopwatch()

  const calibration =
    settings.method === 'rtn' ? undefined : await calibrate(run, options, partOf(onProgress, 0, sampled))
  seconds.calibration += lap()
  if (tuning && calibration) assertTunableOn(run.config, calibration, tuning)

  // first of all that is quantized: a damaged embedding is found before hours of work, not behind them
  await quantizeEndTensors(
    run.weights,
    run.ends,
    async (name, layer, report) => {
      ends.push(report)
      await hand(run, name, layer, report)
    },
    run.signal,
    partOf(onProgress, sampled, sampled),
  )
  seconds.quantization += lap()

  const budget = settings.method === 'gptvq' ? settings.budget : undefined
  const start = budget === undefined ? sampled : sampled + SENSITIVITY_SHARE * (end - sampled)
  const mixed = calibration && (await shareBits(run, calibration, budget, partOf(onProgress, sampled, start)))
  if (mixed) seconds.sensitivity += lap()

  const untuned = new Map<string, VqLayer>()
  const deliver: OnQuantized = async ({ name }, layer, report) => {
    layers.push(report)
    if (tuning && 'layout' in layer) untuned.set(name, layer)
    else await hand(run, name, layer, report)
  }
  const inBlocks = partOf(onProgress, start, end)
  const layerBits = mixed?.layers
  await quantizeBlocks({ run, calibration, layerBits, deliver, onProgress: inBlocks, seconds })

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
    await hand(run, name, layer, layers.find((report) => `${report.name}.weight` === name)!)
  }
  if (tuned) seconds.tuning += lap()

  const outputBytes = await finish(run)
  return { layers, ends, calibration, mixed: mixed?.report, tuning: tuned?.report, outputBytes, seconds }
}

async function hand(
  { onLayer, output }: ModelRun,
  name: string,
  layer: QuantizedLayer,
  report: LayerReport,
): Promise<void> {
  onLayer?.(name, layer)
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
    onProgress,
    signal,
    begun: (values) => keptSensitivity(journal, values),
    onBlock: (state) => keepSensitivity(journal, state),
  })
  await keepBudget(journal, shared)
  return shared
}

/** Writes the folder's end. @returns the bytes of all files, null when none are written */
async function finish({ output, onProgress, signal }: ModelRun): Promise<number | null> {
  onProgress?.({ step: output ? `writing ${output.folder}` : 'done', done: 1 })
  throwIfAborted(signal)
  const written = await output?.finish()
  return written?.bytes ?? null
}
