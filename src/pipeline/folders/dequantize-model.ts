import { openCheckpoint } from '../../checkpoint/checkpoint.js'
import { encodeFloats, type FloatDtype } from '../../checkpoint/dtype.js'
import { fetchOptionsOf } from '../../checkpoint/model-source.js'
import { createCheckpointWriter, type WrittenCheckpoint } from '../../checkpoint/output/checkpoint-writer.js'
import { readQuantization } from '../../checkpoint/quantized/quantization.js'
import { readQuantizedLayer, storedNames } from '../../checkpoint/quantized/quantized-tensors.js'
import { type OptionNames, refuseUnknown, requireOneOf, requirePath } from '../../common/check-option.js'
import { CheckpointError, NumericError, orNothingWritten, throwIfAborted } from '../../common/errors.js'
import type { Matrix } from '../../common/matrix.js'
import { dequantize } from '../../packing/quantized-layer.js'
import type { OnProgress } from '../progress.js'
import { requireDistinctFolders } from './distinct-folders.js'
import { CARD_FILE, dequantizedCard, sourceCard } from './model-card.js'
import { addConfig, assertFiniteBytes, copyFiles, copyTensors, type OutputOptions } from './output.js'

/** Dtypes that a dequantized weight can be written in. */
export type PlainDtype = Exclude<FloatDtype, 'F64'>

/** All values of {@link PlainDtype}. */
export const plainDtypes: readonly PlainDtype[] = ['F32', 'F16', 'BF16']

export interface DequantizeModelOptions extends OutputOptions {
  /** A quantized folder. */
  model: string
  /** The folder to write. */
  output: string
  /**
   * Default: what each weight was before. `'F32'` keeps the dequantized values bit for bit, the others round them.
   * `config.json` says it too.
   */
  dtype?: PlainDtype
  /** Receives what is being done and how much of it is done. */
  onProgress?: OnProgress
  /** Stops the work with an AbortedError; nothing is written then. */
  signal?: AbortSignal
}

/** A plain folder that was written. */
export interface DequantizedModel extends WrittenCheckpoint {
  /** What a person should know of the files beside the weights. */
  readonly notes: readonly string[]
}

/** What `config.json` calls them: transformers loads weights in the dtype that it says, however they are stored. */
const dtypeNames: Readonly<Record<PlainDtype, string>> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' }

const optionNames: OptionNames<DequantizeModelOptions> = {
  model: true,
  output: true,
  dtype: true,
  force: 'switch',
  maxShardBytes: true,
  onProgress: true,
  signal: true,
}

/**
 * Writes a quantized folder as a plain one, which any Hugging Face runtime loads.
 *
 * @throws CheckpointError, OptionError; AbortedError when `signal` fires. Nothing is written then
 */
export async function dequantizeModel(options: DequantizeModelOptions): Promise<DequantizedModel> {
  refuseUnknown(options, optionNames)
  requirePath('model', options.model)
  requirePath('output', options.output)
  return orNothingWritten(() => dequantizeFolder(options))
}

async function dequantizeFolder(options: DequantizeModelOptions): Promise<DequantizedModel> {
  const { dtype, onProgress, signal } = options
  if (dtype !== undefined) requireOneOf('dtype', dtype, plainDtypes)
  const checkpoint = await openCheckpoint(options.model, fetchOptionsOf(options))
  try {
    const quantization = readQuantization(checkpoint)
    if (quantization === undefined) {
      throw new CheckpointError(`${options.model}: is not quantized, so there is nothing to undo`)
    }
    const modules = Object.entries(quantization.modules)
    await requireDistinctFolders(options.model, options.output)
    const writer = await createCheckpointWriter(options.output, {
      force: options.force,
      maxShardBytes: options.maxShardBytes,
    })
    try {
      const stored = new Set<string>()
      for (const [i, [module, record]] of modules.entries()) {
        throwIfAborted(signal)
        onProgress?.({ step: `dequantizing ${module}`, done: i / modules.length })
        const layer = await readQuantizedLayer(checkpoint, module, record)
        const values = encodeWeights(module, dtype ?? record.dtype, dequantize(layer))
        await writer.add(`${module}.weight`, dtype ?? record.dtype, record.shape, values)
        for (const name of storedNames(module, record)) stored.add(name)
      }
      await copyTensors(checkpoint, writer, (name) => !stored.has(name), signal)
      await copyFiles(checkpoint, writer)
      const card = dequantizedCard(quantization.method, await sourceCard(checkpoint))
      await writer.addFile(CARD_FILE, card)
      await addConfig(writer, checkpoint, undefined, dtype && dtypeNames[dtype])
      throwIfAborted(signal)
      onProgress?.({ step: `writing ${options.output}`, done: 1 })
      return { ...(await writer.finish()), notes: checkpoint.notes }
    } finally {
      await writer.discard()
    }
  } finally {
    await checkpoint.close()
  }
}

function encodeWeights(module: string, dtype: FloatDtype, { rows, cols, data: values }: Matrix): Uint8Array {
  const shape = [rows, cols]
  const largestHalf = 65504
  if (dtype === 'F16') {
    const at = values.findIndex((value) => Math.abs(value) > largestHalf)
    if (at >= 0) {
      throw new NumericError(
        `${module}.weight: value ${values[at]} is beyond the range of F16 (${largestHalf}); choose BF16 or F32`,
      )
    }
  }
  const bytes = encodeFloats(dtype, values)
  assertFiniteBytes(`${module}.weight`, dtype, shape, bytes)
  return bytes
}
