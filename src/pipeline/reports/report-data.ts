import { type Checkpoint, openCheckpoint } from '../../checkpoint/checkpoint.js'
import { bytesPerElement } from '../../checkpoint/dtype.js'
import { fetchOptionsOf } from '../../checkpoint/model-source.js'
import { type CheckpointWeights, checkpointWeights } from '../../checkpoint/model-weights.js'
import { readQuantization } from '../../checkpoint/quantized/quantization.js'
import type { ModuleRecord, QuantizationConfig } from '../../checkpoint/quantized/quantized-config.js'
import { readQuantizedLayer, storedNames } from '../../checkpoint/quantized/quantized-tensors.js'
import { findTensor } from '../../checkpoint/tensor-source.js'
import { type OptionNames, refuseUnknown, requirePath, requireWhole } from '../../common/check-option.js'
import { CheckpointError } from '../../common/errors.js'
import { pacer } from '../../common/event-loop.js'
import { matrix } from '../../common/matrix.js'
import { readTensor } from '../../model/decoder/weights.js'
import { bitsPerValue, packedBytes } from '../../packing/bits-per-value.js'
import { pack, type QuantizedLayer } from '../../packing/quantized-layer.js'
import { codebookGroup } from '../../report/codebooks/codebook-group.js'
import { indexUsage } from '../../report/codebooks/index-usage.js'
import type { ReportCodebook, ReportData, ReportLayer } from '../../report/page/report-data.js'
import { architectureOf, recordFormat } from '../folders/inspect-model.js'
import { packageVersion } from '../folders/package-version.js'
import type { OnProgress } from '../progress.js'
import type { RunDetails } from './run-details.js'

/** What to report on. */
export interface ReportDataOptions {
  /** A quantized folder. */
  model: string
  /** The model in full precision: its weights are drawn under the codebooks. */
  reference?: string
  /** Codebooks to show at most, default 3: of the best layer, the worst, and those between. 0 shows none. */
  codebooks?: number
  /** What is known of the run that made the folder, see `runDetails`. */
  run?: RunDetails
  /** Receives what is being done and how much of it is done. */
  onProgress?: OnProgress
  /** Stops the work with an AbortedError. */
  signal?: AbortSignal
}

const optionNames: OptionNames<ReportDataOptions> = {
  model: true,
  reference: true,
  codebooks: true,
  run: true,
  onProgress: true,
  signal: true,
}

/**
 * Gathers from a quantized folder what `reportHtml` tells of it. One layer is in memory at a time.
 *
 * @throws CheckpointError when the folder is not quantized or damaged, or `reference` is another model or quantized
 *   too; OptionError; AbortedError when `signal` fires
 */
export async function reportData(options: ReportDataOptions): Promise<ReportData> {
  refuseUnknown(options, optionNames)
  requirePath('model', options.model)
  const { model, reference, codebooks: shownCodebooks = 3, run, onProgress, signal } = options
  requireWhole('codebooks', shownCodebooks, 0, 100)
  const pause = pacer(signal)
  const checkpoint = await openCheckpoint(model, fetchOptionsOf(options))
  let original: Checkpoint | undefined
  try {
    const quantization = quantizationOf(checkpoint)
    original = reference === undefined ? undefined : await openCheckpoint(reference, fetchOptionsOf(options))
    const weights = original && plainWeights(original)
    const modules = Object.entries(quantization.modules)
    const shown = layersToShow(modules, shownCodebooks)
    const layers: ReportLayer[] = []
    const codebooks: ReportCodebook[] = []
    for (const [i, [name, record]] of modules.entries()) {
      await pause()
      onProgress?.({ step: `reading ${name}`, done: i / modules.length })
      const layer = await readQuantizedLayer(checkpoint, name, record)
      layers.push(reportLayer(name, record, layer))
      if (shown.has(name) && 'layout' in layer) {
        const weight = weights && (await originalWeight(weights, name, record))
        codebooks.push({ layer: name, group: 0, ...codebookGroup(layer, 0, weight) })
      }
    }
    return {
      model,
      architecture: architectureOf(checkpoint.config),
      method: quantization.method,
      settings: quantization.settings,
      ...(quantization.run && { made: quantization.run }),
      layers,
      kept: keptTensors(checkpoint, modules),
      codebooks,
      version: await packageVersion(),
      ...run,
      ...(reference !== undefined && { source: reference }),
    }
  } finally {
    await original?.close()
    await checkpoint.close()
  }
}

function quantizationOf(checkpoint: Checkpoint): QuantizationConfig {
  const quantization = readQuantization(checkpoint)
  if (quantization !== undefined) return quantization
  throw new CheckpointError(
    `${checkpoint.folder}: is not quantized, so there is nothing to report; make a quantized folder with \`gptvq quantize\``,
  )
}

function plainWeights(reference: Checkpoint): CheckpointWeights {
  const weights = checkpointWeights(reference)
  if (weights.quantization === undefined) return weights
  throw new CheckpointError(
    `${reference.folder}: is quantized too; give the model in full precision as the reference, or none`,
  )
}

/** As many vector-quantized layers as asked for, evenly drawn from the least error to the greatest, both included. */
function layersToShow(modules: readonly (readonly [string, ModuleRecord])[], most: number): Set<string> {
  const error = ([, record]: readonly [string, ModuleRecord]) => record.relative_error ?? 0
  const ordered = modules.filter(([, { format }]) => format === 'vq').sort((a, b) => error(a) - error(b))
  const count = Math.min(most, ordered.length)
  const place = (i: number) =>
    count === 1 ? ordered.length - 1 : Math.round((i * (ordered.length - 1)) / (count - 1))
  return new Set(Array.from({ length: count }, (_, i) => ordered[place(i)][0]))
}

function reportLayer(name: string, record: ModuleRecord, layer: QuantizedLayer): ReportLayer {
  const [rows, cols] = record.shape
  const packed = pack(layer)
  return {
    name,
    rows,
    cols,
    format: recordFormat(record),
    bytes: packedBytes(packed),
    bytesBefore: rows * cols * bytesPerElement(record.dtype),
    relativeError: record.relative_error,
    ...(record.drift_move !== undefined && { driftMove: record.drift_move }),
    bitsPerValue: bitsPerValue(packed),
    ...('layout' in layer && { usage: indexUsage(layer) }),
  }
}

async function originalWeight(weights: CheckpointWeights, name: string, { shape }: ModuleRecord) {
  const [rows, cols] = shape
  const data = await readTensor(weights, `${name}.weight`, shape, `the quantized layer ${name}`)
  return matrix(rows, cols, data)
}

/** Tensors that no quantized layer consists of. */
function keptTensors(
  { tensors, folder }: Checkpoint,
  modules: readonly (readonly [string, ModuleRecord])[],
): ReportData['kept'] {
  const stored = new Set(modules.flatMap(([name, record]) => storedNames(name, record)))
  for (const name of stored) findTensor(tensors, name, folder)
  const kept = [...tensors.values()].filter(({ name }) => !stored.has(name))
  return { tensors: kept.length, bytes: kept.reduce((sum, { bytes }) => sum + bytes, 0) }
}
