import { placeOf, requireModel } from '../../checkpoint/model-source.js'
import { refuseUnknown, requireOneOf, requirePath } from '../../common/check-option.js'
import { orNothingWritten } from '../../common/errors.js'
import { setThreads } from '../../kernels/kernels.js'
import { startProducts } from '../../kernels/native/start-products.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import { startEngine } from '../../model/ops/engine.js'
import { withScheme } from '../activations/scheme.js'
import { type ActivationPlace, openActivations } from '../calibrate/activation-place.js'
import { type Calibration, gatherCalibration } from '../calibrate/calibration.js'
import { batchesInMemory } from '../calibrate/memory-bound.js'
import { equalizeModel } from '../equalize/equalize-model.js'
import { equalizesByText } from '../equalize/options.js'
import type { OnProgress } from '../progress.js'
import { leave, requireResumable } from '../resume/leave-run.js'
import { openRunOutput, type RunOutput } from '../resume/run-output.js'
import { stopwatch } from '../stopwatch.js'
import { type LayerTeam, openTeam } from './layers/layer-team.js'
import { noteOnZeros } from './layers/trellis-notes.js'
import { quantizePhases } from './phases.js'
import { type PreparedRun, prepareRun } from './prepare-run.js'
import { type QuantizeModelOptions, quantizeModelOptionNames } from './quantize-model-options.js'
import { type QuantizationReport, quantizationReport } from './report.js'

export type { QuantizeModelOptions } from './quantize-model-options.js'

/**
 * Quantizes the linear layers of a model block by block: the Hessians of a block come from calibration activations
 * that flowed through the quantized blocks before it. In memory at a time: one block (of its experts one), the
 * activations between two blocks, and the Hessians of one block.
 *
 * Norms and routers keep their bytes, and unless told otherwise embeddings and head. The same options and files give the
 * same bytes.
 *
 * @throws OptionError, TextError, CheckpointError, UnsupportedError, NumericError, each naming what is wrong;
 *   AbortedError when `signal` fires. On any of them no output is written and what was there before is kept; the message
 *   says where finished blocks are kept, with which `resume` goes on
 */
export async function quantizeModel(options: QuantizeModelOptions): Promise<QuantizationReport> {
  refuseUnknown(options, quantizeModelOptionNames)
  requireModel('model', options.model)
  if (options.output !== undefined) requirePath('output', options.output)
  if (options.unfinished !== undefined) requireOneOf('unfinished', options.unfinished, ['keep', 'discard'])
  requireResumable(options)
  return options.output === undefined ? quantize(options) : orNothingWritten(() => quantize(options))
}

async function quantize(given: QuantizeModelOptions): Promise<QuantizationReport> {
  const clock = stopwatch()
  let before = 0
  let passed = 0
  const elapsed = () => {
    passed += clock()
    return before + passed
  }
  if (given.threads !== undefined) setThreads(given.threads)
  const products = await startProducts(given.products)
  const prepared = await prepareRun(given)
  const { checkpoint, config, settings, plan, ends, stated, notes, activations } = prepared
  const options = withScheme(given)
  let place: RunOutput | undefined
  let spill: ActivationPlace | undefined
  let team: LayerTeam | undefined
  try {
    const resident = batchesInMemory(prepared, options)
    const engine = prepared.looksAtText ? await startEngine(options.engine) : null
    team = await openTeam(options, products, engine, prepared)
    const { model, output: folder, onLayer, signal } = options
    const onProgress = withTeam(options.onProgress, team)
    const equalized = await equalizedModel(options, prepared)
    const { weights, changed, calibration } = equalized
    const means = { engine, products, changed: { names: changed, floats: weights.floats } }
    if (folder !== undefined) place = await openRunOutput(folder, prepared, means, given)
    const { output, journal } = place ?? { output: undefined, journal: undefined }
    before = journal?.state.seconds.total ?? 0
    spill = await openActivations(resident, journal?.folder)
    const work = {
      model,
      config,
      weights,
      settings,
      plan,
      ends,
      activations,
      calibration,
      place: spill.place,
    }
    const watch = { output, journal, elapsed, onProgress, onLayer, ...teamOf(team), signal }
    const done = await quantizePhases({ ...work, ...watch }, options)
    await spill.close()
    await journal?.remove()
    const { method } = settings
    const noted = { settings: stated, notes: [...notes, ...noteOnZeros(done.layers, plan)] }
    const of = { model: placeOf(model), output: folder ?? null, method, ...noted }
    return quantizationReport(of, checkpoint, done, elapsed())
  } catch (error) {
    await spill?.close()
    throw await leave(place?.output, place?.journal, error)
  } finally {
    await team?.close()
    await checkpoint.close()
  }
}

const teamOf = (team: LayerTeam | undefined) => ({ runLayer: team?.runLayer, runStage: team?.runStage })

/** Steps that workers take a part in. */
const AWAY = /quantizing |collecting |running the quantized /

/** Says how it stands with workers and jobs beside what is done. */
function withTeam(onProgress: OnProgress | undefined, team: LayerTeam | undefined): OnProgress | undefined {
  if (onProgress === undefined || team === undefined) return onProgress
  return ({ step, done }) => {
    const isAway = AWAY.test(step)
    onProgress({ step: isAway ? `${step} (${team.describe()})` : step, done })
  }
}

/** The model that layers are rounded of, and the calibration sequences where they were needed for it. */
async function equalizedModel(
  options: QuantizeModelOptions,
  { weights: source, config, equalizing, plan, activations }: PreparedRun,
): Promise<{ weights: WeightSource; changed: ReadonlySet<string>; calibration: Calibration | undefined }> {
  const { onProgress, signal } = options
  const { equalization } = equalizing
  if (equalization === 'none') return { weights: source, changed: new Set(), calibration: undefined }
  const report = () => onProgress?.({ step: 'equalizing', done: 0 })
  const reportPass = (done: number) =>
    onProgress?.({ step: `equalizing, ${Math.floor(100 * done)} %`, done: 0 })
  const calibration = equalizesByText(equalization)
    ? await gatherCalibration(options, options.model, source, config, report, signal)
    : undefined
  const weightsOf = (name: string) => {
    const settings = plan.settingsOf(name)
    if (settings === undefined || settings.method === 'gptvq') return undefined
    const { damping: _, ...scalar } = settings.options
    return scalar
  }
  const rounding = { weightsOf, activations }
  const task = { source, config, calibration, rounding, onProgress: reportPass, signal }
  const { source: weights, changed } = await equalizeModel(task, equalizing)
  return { weights, changed, calibration }
}
