import { refuseUnknown, requireOneOf, requirePath } from '../../check-option.js'
import { orNothingWritten } from '../../errors.js'
import { setThreads } from '../../kernels/kernels.js'
import { startEngine } from '../../model/ops/engine.js'
import { stopwatch } from '../stopwatch.js'
import { type ActivationPlace, batchesInMemory, openActivations } from './memory-bound.js'
import { quantizePhases } from './phases.js'
import { prepareRun } from './prepare-run.js'
import { type QuantizeModelOptions, quantizeModelOptionNames } from './quantize-model-options.js'
import { type QuantizationReport, quantizationReport } from './report.js'
import { leave, openRunOutput, type RunOutput, requireResumable } from './run-output.js'

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
  requirePath('model', options.model)
  if (options.output !== undefined) requirePath('output', options.output)
  if (options.unfinished !== undefined) requireOneOf('unfinished', options.unfinished, ['keep', 'discard'])
  requireResumable(options)
  return options.output === undefined ? quantize(options) : orNothingWritten(() => quantize(options))
}

async function quantize(options: QuantizeModelOptions): Promise<QuantizationReport> {
  const clock = stopwatch()
  let before = 0
  let passed = 0
  const elapsed = () => {
    passed += clock()
    return before + passed
  }
  if (options.threads !== undefined) setThreads(options.threads)
  const prepared = await prepareRun(options)
  const { checkpoint, settings, stated, notes } = prepared
  let place: RunOutput | undefined
  let activations: ActivationPlace | undefined
  try {
    const resident = batchesInMemory(prepared, options)
    const engine = settings.method === 'rtn' ? null : await startEngine(options.engine)
    const { model, output: folder, onProgress, onLayer, signal } = options
    if (folder !== undefined) place = await openRunOutput(folder, prepared, engine, options)
    const { output, journal } = place ?? { output: undefined, journal: undefined }
    before = journal?.state.seconds.total ?? 0
    activations = await openActivations(resident, journal?.folder)
    const done = await quantizePhases(
      { ...prepared, model, output, journal, activations, elapsed, onProgress, onLayer, signal },
      options,
    )
    await activations.close()
    await journal?.remove()
    const { method } = settings
    const of = { model, output: folder ?? null, method, settings: stated, notes }
    return quantizationReport(of, checkpoint, done, elapsed())
  } catch (error) {
    await activations?.close()
    throw await leave(place?.output, place?.journal, error)
  } finally {
    await checkpoint.close()
  }
}
