import { type KmeansOptions, quantizeKmeans } from '../../baselines/kmeans.js'
import { quantizeRtn } from '../../baselines/rtn.js'
import {
  resolveScalarOptions,
  type ScalarGridOptions,
  scalarGridOptionNames,
  scalarOptionsOf,
} from '../../baselines/scalar-options.js'
import { type Checkpoint, openCheckpoint } from '../../checkpoint/checkpoint.js'
import { isFloatDtype } from '../../checkpoint/dtype.js'
import { fetchOptionsOf, type ModelPlace, placeOf, requireModel } from '../../checkpoint/model-source.js'
import { checkpointWeights } from '../../checkpoint/model-weights.js'
import {
  type OptionNames,
  refuseUnknown,
  requireOneOf,
  requirePath,
  requirePatterns,
} from '../../common/check-option.js'
import { CheckpointError, OptionError, orNothingWritten, throwIfAborted } from '../../common/errors.js'
import { turnOfEventLoop } from '../../common/event-loop.js'
import { type Matrix, matrix } from '../../common/matrix.js'
import { nameMatcher } from '../../common/nearest-name.js'
import { pack, type QuantizedLayer } from '../../packing/quantized-layer.js'
import { createQuantizedOutput, type OutputOptions } from '../folders/output.js'
import type { OnProgress } from '../progress.js'
import { stopwatch } from '../stopwatch.js'
import { type LayerReport, layerReport, totalBitsPerValue } from './layers/layer-report.js'
import { runRecord } from './run-record.js'

/** What to quantize by the names of its tensors alone. */
export interface QuantizeTensorsOptions
  extends ScalarGridOptions,
    Pick<KmeansOptions, 'vectorDim' | 'columnsPerGroup' | 'bpv' | 'codebookBits' | 'seed'>,
    OutputOptions {
  /** A model folder with a `config.json`, of whatever architecture. */
  model: ModelPlace
  /** The folder to write. */
  output: string
  /** `'rtn'` (default), or plain k-means over vectors. Neither needs a forward pass. */
  method?: 'rtn' | 'kmeans'
  /**
   * Which tensors, as globs over their names less `.weight`. Default: all with two dimensions but those that are called
   * embeddings, heads, norms, routers or gates of experts.
   */
  tensors?: string | readonly string[]
  /** Bits per weight, 1 to 8, default 4 for `'rtn'`, 2 for `'kmeans'`. */
  bits?: number
  /** Weights that share a scale (default 128) or a codebook (default: by `bpv`). */
  groupSize?: number
  /** Receives what is being done and how much of it is done. */
  onProgress?: OnProgress
  /** Stops the work; nothing is written then. */
  signal?: AbortSignal
}

const optionNames: OptionNames<QuantizeTensorsOptions> = {
  ...scalarGridOptionNames,
  model: true,
  output: true,
  method: true,
  tensors: true,
  bits: true,
  groupSize: true,
  vectorDim: true,
  columnsPerGroup: true,
  bpv: true,
  codebookBits: true,
  seed: true,
  force: 'switch',
  maxShardBytes: true,
  onProgress: true,
  signal: true,
}

/** What {@link quantizeTensors} did. */
export interface TensorsReport {
  /** The model, as given. */
  readonly model: string
  /** The folder written. */
  readonly output: string
  /** The method used. */
  readonly method: 'rtn' | 'kmeans'
  /** The options in force. */
  readonly settings: Readonly<Record<string, unknown>>
  /** Each quantized tensor. */
  readonly layers: readonly LayerReport[]
  /** Over all of them, counted from their bytes. */
  readonly bitsPerValue: number
  /** What a person should know of the files beside the weights. */
  readonly notes: readonly string[]
  /** Bytes of all files written. */
  readonly outputBytes: number
}

/** Words in names of tensors with two dimensions that are no plain linear layers, or bear rounding badly. */
const APART = /embed|wte|wpe|position|lm_head|norm|router|(^|[._])ln|(^|\.)(gate|wg)$/i

/** A method with its settings. */
interface TensorMethod {
  readonly method: 'rtn' | 'kmeans'
  readonly settings: Readonly<Record<string, unknown>>
  quantize(weight: Matrix, name: string): QuantizedLayer
}

/**
 * Quantizes the weights with two dimensions of a model whose architecture need not be known: by rounding, or by plain
 * k-means. Such a folder is listed by `inspectModel` and undone by `dequantizeModel`; it runs where its family is known.
 *
 * @throws OptionError, CheckpointError, NumericError, each naming what is wrong; AbortedError. Nothing is written then
 */
export async function quantizeTensors(options: QuantizeTensorsOptions): Promise<TensorsReport> {
  refuseUnknown(options, optionNames)
  requireModel('model', options.model)
  requirePath('output', options.output)
  const method = resolveMethod(options)
  return orNothingWritten(() => quantizeAll(options, method))
}

async function quantizeAll(
  options: QuantizeTensorsOptions,
  { method, settings, quantize }: TensorMethod,
): Promise<TensorsReport> {
  const { model, output, onProgress, signal } = options
  const checkpoint = await openCheckpoint(model, fetchOptionsOf(options))
  try {
    const weights = checkpointWeights(checkpoint)
    if (weights.quantization !== undefined) {
      throw new CheckpointError(`${checkpoint.folder}: is quantized already; give the model it was made from`)
    }
    const chosen = chooseTensors(checkpoint, options.tensors)
    const replaced = new Set(chosen)
    const given = { ...withoutText(options), ...(signal && { signal }) }
    const run = await runRecord(
      checkpoint,
      given,
      { engine: null, products: 'wasm', command: 'quantize-tensors' },
      signal,
    )
    const made = { method, stated: settings, run }
    const written = await createQuantizedOutput(output, checkpoint, replaced, made, given)
    try {
      const layers: LayerReport[] = []
      for (const [i, name] of chosen.entries()) {
        const module = name.replace(/\.weight$/, '')
        onProgress?.({ step: `quantizing ${module}`, done: i / chosen.length })
        await turnOfEventLoop()
        throwIfAborted(signal)
        const lap = stopwatch()
        const [rows, cols] = weights.shape(name)!
        const layer = quantize(matrix(rows, cols, await weights.floats(name)), name)
        const measured = {
          relativeError: null,
          drift: null,
          tokens: null,
          pooled: null,
          zeros: null,
          seconds: lap(),
        }
        const report = layerReport(module, pack(layer), measured)
        await written.addLayer(module, layer, report)
        layers.push(report)
      }
      onProgress?.({ step: `writing ${output}`, done: 1 })
      const { bytes } = await written.finish()
      const bitsPerValue = totalBitsPerValue(layers)
      const { notes } = checkpoint
      return {
        model: placeOf(model),
        output,
        method,
        settings,
        layers,
        bitsPerValue,
        notes,
        outputBytes: bytes,
      }
    } finally {
      await written.discard()
    }
  } finally {
    await checkpoint.close()
  }
}

/** What the record keeps of the options. */
function withoutText({ force, maxShardBytes, ...options }: QuantizeTensorsOptions): OutputOptions {
  return {
    ...options,
    ...(force !== undefined && { force }),
    ...(maxShardBytes !== undefined && { maxShardBytes }),
  }
}

/** Names of the weights to quantize, in the order of the files. @throws OptionError, CheckpointError when there are none */
function chooseTensors({ tensors, folder }: Checkpoint, asked: QuantizeTensorsOptions['tensors']): string[] {
  const able = Array.from(tensors.values()).filter(
    ({ name, dtype, shape }) =>
      name.endsWith('.weight') && shape.length === 2 && Math.min(...shape) > 1 && isFloatDtype(dtype),
  )
  const names = able.map(({ name }) => name)
  const bare = (name: string) => name.replace(/\.weight$/, '')
  if (asked === undefined) {
    const linear = names.filter((name) => !APART.test(bare(name)))
    if (linear.length > 0) return linear
    throw new CheckpointError(
      `${folder}: no tensor looks like the weight of a linear layer (two dimensions, named NAME.weight); name them by tensors`,
    )
  }
  const patterns = requirePatterns('tensors', asked)
  const found = new Set<string>()
  for (const pattern of patterns) {
    const matches = nameMatcher(pattern)
    const own = names.filter((name) => matches(bare(name)))
    if (own.length === 0) {
      const example = names.length > 0 ? `, such as ${bare(names[0])}` : ''
      throw new OptionError(
        'tensors',
        `the pattern '${pattern}' matches none of the ${names.length} weights with two dimensions${example}`,
      )
    }
    for (const name of own) found.add(name)
  }
  return names.filter((name) => found.has(name))
}

const VECTOR_ONLY = ['vectorDim', 'columnsPerGroup', 'bpv', 'codebookBits', 'seed'] as const
const SCALAR_ONLY = Object.keys(scalarGridOptionNames) as (keyof ScalarGridOptions)[]

function resolveMethod(options: QuantizeTensorsOptions): TensorMethod {
  const { method = 'rtn' } = options
  requireOneOf('method', method, ['rtn', 'kmeans'])
  for (const option of method === 'rtn' ? VECTOR_ONLY : SCALAR_ONLY) {
    if (options[option] === undefined) continue
    throw new OptionError(option, `is of no use to method '${method}'; leave it out or choose the other one`)
  }
  if (method === 'rtn') {
    if (options.scaleSearch === 'sequential-mse') {
      throw new OptionError(
        'scaleSearch',
        "needs a forward pass; expected 'minmax' or 'mse', or use quantizeModel",
      )
    }
    const { bits = 4 } = options
    const scalar = scalarOptionsOf(resolveScalarOptions({ ...options, bits }))
    return { method, settings: { ...scalar }, quantize: (weight, name) => quantizeRtn(weight, scalar, name) }
  }
  const { bits = 2, vectorDim = 2, groupSize, columnsPerGroup, bpv, codebookBits, seed } = options
  const given = { bits, vectorDim, groupSize, columnsPerGroup, bpv, codebookBits, seed }
  const settings: KmeansOptions = Object.fromEntries(
    Object.entries(given).filter(([, value]) => value !== undefined),
  )
  return {
    method,
    settings: { ...settings },
    quantize: (weight, name) => quantizeKmeans(weight, settings, name),
  }
}
