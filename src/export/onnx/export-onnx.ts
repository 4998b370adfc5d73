import { join } from 'node:path'
import { type Checkpoint, openCheckpoint } from '../../checkpoint/checkpoint.js'
import { fileError } from '../../checkpoint/file-errors.js'
import {
  copyFileBytes,
  type FileSystem,
  nodeFileSystem,
  syncFolder,
  writeAt,
  writeNewFile,
} from '../../checkpoint/file-system.js'
import { fetchOptionsOf } from '../../checkpoint/model-source.js'
import { type CheckpointWeights, checkpointWeights } from '../../checkpoint/model-weights.js'
import { prepareOutputFolder } from '../../checkpoint/output/output-folder.js'
import {
  type OptionNames,
  refuseUnknown,
  requireOneOf,
  requirePath,
  requireWhole,
} from '../../common/check-option.js'
import { OptionError, orNothingWritten, throwIfAborted } from '../../common/errors.js'
import { assertBlockTensors } from '../../model/decoder/block.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { assertEmbedding } from '../../model/decoder/embedding.js'
import { assertHead } from '../../model/decoder/head.js'
import { blockLinears } from '../../model/decoder/linears.js'
import { describeDecoder } from '../../model/families/index.js'
import { requireDistinctFolders } from '../../pipeline/folders/distinct-folders.js'
import { CARD_FILE, onnxCard, sourceCard } from '../../pipeline/folders/model-card.js'
import { packageVersion } from '../../pipeline/folders/package-version.js'
import { requireWholeModel } from '../../pipeline/folders/whole-model.js'
import type { OnProgress } from '../../pipeline/progress.js'
import { roundingNotes } from '../rounding-notes.js'
import { companionFiles, exportedConfig, missingFiles } from './companion-files.js'
import { createDataFiles } from './data-files.js'
import { addDecoder } from './decoder/decoder.js'
import { decodingStages } from './decoder/stages.js'
import { encodeModel } from './encode-model.js'
import { encodingsOf } from './encodings.js'
import { createGraph } from './graph.js'
import { type GraphWeights, type OnnxWeights, onnxWeights } from './weights/weights.js'

/** What to export, and where to. */
export interface ExportOnnxOptions {
  /** A model folder, quantized or plain, or a `.gguf` file. */
  model: string
  /** The folder to write. */
  output: string
  /**
   * How weights are written. `'packed'`, the default: as small as they are stored, the graph decodes them; a runtime does
   * that once, when it loads the model. `'nbits'`: the same, but scalar layers of up to 4 bits as 4-bit `MatMulNBits`,
   * which stay packed in memory too. `'dense16'`, `'dense32'`: all as float16 or float32.
   */
  weights?: OnnxWeights
  /**
   * Writes `onnx/model.encodings` beside the graph: the grids of scalar layers, and of activations with static ranges, in
   * the form of AIMET (version 1.0.0), for tools that take a graph of float32 and its encodings. Only with `'dense32'`.
   * Default false.
   */
  encodings?: boolean
  /** Weights of up to this many bytes lie in `model.onnx` itself, more in files beside it. Default 2^30, less than 2^31. */
  inlineBytes?: number
  /** Replace a model folder that is already there. Default false. */
  force?: boolean
  /** Receives what is being done and how much of it is done. */
  onProgress?: OnProgress
  /** Stops the work with an AbortedError; nothing is written then. */
  signal?: AbortSignal
}

const optionNames: OptionNames<ExportOnnxOptions> = {
  model: true,
  output: true,
  weights: true,
  encodings: 'switch',
  inlineBytes: true,
  force: 'switch',
  onProgress: true,
  signal: true,
}

/** A folder that was written. */
export interface ExportedOnnx {
  /** The folder. */
  readonly output: string
  /** Names of its files within it, sorted. */
  readonly files: readonly string[]
  /** Bytes of all of them. */
  readonly bytes: number
  /** Bytes of `onnx/`: the model and its data files. */
  readonly modelBytes: number
  /** Operations in the graph. */
  readonly nodes: number
  /** What will be different there, in words. */
  readonly notes: readonly string[]
}

const FOLDER = 'onnx'
const MODEL_FILE = 'model.onnx'
/** What a data file holds at most, unless a single constant is larger: browsers have no larger buffers. */
const DATA_FILE_BYTES = 2 ** 31 - 2 ** 20
const MOST_INLINE_BYTES = 2 ** 31 - 2 ** 20

/**
 * Writes a model as an ONNX graph with all that transformers.js needs beside it: `onnx/model.onnx`, `config.json`,
 * tokenizer and generation settings. The graph has operators of ONNX's set 21, with `'nbits'` also `MatMulNBits`. The
 * folder is written beside its place and moved there when it is whole.
 *
 * @throws OptionError; UnsupportedError for a family that is not known
 * @throws CheckpointError when the model is damaged or the folder cannot be written; AbortedError when `signal` fires.
 *   What was at the place before is kept then
 */
export function exportOnnx(options: ExportOnnxOptions): Promise<ExportedOnnx> {
  return exportOnnxInFiles(options, DATA_FILE_BYTES)
}

/** {@link exportOnnx} with data files of another size. */
export async function exportOnnxInFiles(
  options: ExportOnnxOptions,
  fileBytes: number,
): Promise<ExportedOnnx> {
  refuseUnknown(options, optionNames)
  requirePath('model', options.model)
  requirePath('output', options.output)
  const { weights = 'packed', inlineBytes = 2 ** 30 } = options
  requireOneOf('weights', weights, onnxWeights)
  requireWhole('inlineBytes', inlineBytes, 0, MOST_INLINE_BYTES)
  if (options.encodings && weights !== 'dense32') {
    throw new OptionError(
      'encodings',
      `they are of tensors in float32, which '${weights}' has none of; give weights 'dense32' too`,
    )
  }
  return orNothingWritten(async () => {
    const checkpoint = await openCheckpoint(options.model, fetchOptionsOf(options))
    try {
      return await exportFolder(checkpoint, options, weights, { inlineBytes, fileBytes })
    } finally {
      await checkpoint.close()
    }
  })
}

async function exportFolder(
  checkpoint: Checkpoint,
  options: ExportOnnxOptions,
  form: OnnxWeights,
  placing: Placing,
): Promise<ExportedOnnx> {
  const { model, output, force = false, onProgress, signal } = options
  const decoder = describeDecoder(checkpoint.config, join(model, 'config.json'))
  const source = checkpointWeights(checkpoint)
  requireWholeModel(checkpoint, decoder, source.quantization)
  assertEmbedding(source, decoder)
  assertHead(source, decoder)
  for (const block of decoder.blocks) assertBlockTensors(source, block)
  await requireDistinctFolders(model, output)
  const system = nodeFileSystem
  const folder = await prepareOutputFolder(system, output, force)
  try {
    const sizes = new Map<string, number>()
    const add = async (name: string, content: string | Uint8Array) => {
      const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content
      await writeNewFile(system, join(folder.partial, name), (file) => writeAt(file, bytes, 0))
      sizes.set(name, bytes.length)
    }
    const weights: UnplacedWeights = {
      checkpoint,
      weights: source,
      form,
      matrices: new Map(),
      inputs: new Map(),
      onWeight: progress(decoder, options),
    }
    await system.mkdir(join(folder.partial, FOLDER))
    const { nodes, dataFiles } = await writeModel(system, folder.partial, decoder, weights, placing, sizes)
    if (options.encodings) {
      const encodings = await encodingsOf(source, weights.inputs, await packageVersion())
      await add(`${FOLDER}/model.encodings`, `${JSON.stringify(encodings, null, 1)}\n`)
    }
    await add('config.json', exportedConfig(checkpoint, { count: dataFiles }))
    await add(CARD_FILE, onnxCard(source.quantization?.method, await sourceCard(checkpoint)))
    await addCompanions(system, checkpoint, decoder, folder.partial, sizes, add)
    throwIfAborted(signal)
    onProgress?.({ step: `writing ${output}`, done: 1 })
    await syncFolder(system, join(folder.partial, FOLDER))
    await folder.place()
    const notes = [...checkpoint.notes, ...notesOn(decoder, source), ...largeFileNotes(sizes, placing)]
    return written(output, sizes, nodes, notes)
  } catch (error) {
    throw fileError(`cannot write ${output}, choose another output`, error)
  } finally {
    await folder.discard()
  }
}

/** Where constants lie, by their bytes. */
interface Placing {
  /** In all: up to so many lie in the model's file. */
  readonly inlineBytes: number
  /** Of a data file at most, unless a single constant is larger. */
  readonly fileBytes: number
}

/** Weights before there is a graph to put them in. */
type UnplacedWeights = Omit<GraphWeights, 'graph' | 'nextGate'>

/** Writes `onnx/`. */
async function writeModel(
  system: FileSystem,
  folder: string,
  decoder: DecoderDescription,
  weights: UnplacedWeights,
  { inlineBytes, fileBytes }: Placing,
  sizes: Map<string, number>,
): Promise<{ nodes: number; dataFiles: number }> {
  const data = createDataFiles(system, join(folder, FOLDER), MODEL_FILE, fileBytes)
  let isKept = false
  try {
    const graph = createGraph(data.store)
    const nextGate = decodingStages(graph, quantizedValues(weights.weights))
    await addDecoder({ ...weights, graph, nextGate }, decoder)
    const producer = { version: await packageVersion(), metadata: { family: decoder.family } }
    const isInline = data.bytes() <= inlineBytes
    const whole = isInline ? await data.readAll() : undefined
    const bytes = encodeModel(
      graph,
      producer,
      whole
        ? { dataOf: ({ offset, bytes: length }) => whole.subarray(offset, offset + length) }
        : { fileOf: ({ file }) => data.names()[file] },
    )
    const name = `${FOLDER}/${MODEL_FILE}`
    await writeNewFile(system, join(folder, name), (file) => writeAt(file, bytes, 0))
    sizes.set(name, bytes.length)
    if (!isInline) {
      isKept = true
      await data.close()
      for (const one of data.names()) {
        sizes.set(`${FOLDER}/${one}`, (await system.stat(join(folder, FOLDER, one))).size)
      }
    }
    return { nodes: graph.nodes.length, dataFiles: isInline ? 0 : data.names().length }
  } finally {
    if (!isKept) await data.remove()
  }
}

/** Values of all quantized layers. */
function quantizedValues({ quantization }: CheckpointWeights): number {
  const records = Object.values(quantization?.modules ?? {})
  return records.reduce((sum, { shape: [rows, cols] }) => sum + rows * cols, 0)
}

async function addCompanions(
  system: FileSystem,
  checkpoint: Checkpoint,
  decoder: DecoderDescription,
  folder: string,
  sizes: Map<string, number>,
  add: (name: string, content: string) => Promise<void>,
): Promise<void> {
  const { copied, made } = companionFiles(checkpoint)
  for (const [name, content] of made) await add(name, content)
  for (const [name, path] of copied) {
    const source = await system.open(path, 'r')
    try {
      sizes.set(name, await writeNewFile(system, join(folder, name), (file) => copyFileBytes(source, file)))
    } finally {
      await source.close()
    }
  }
  for (const [name, content] of missingFiles(decoder, new Set(sizes.keys()))) await add(name, content)
}

/** Counts the weights that were begun, and stops where the caller wants it. */
function progress(
  { blocks }: DecoderDescription,
  { onProgress, signal }: ExportOnnxOptions,
): (name: string) => void {
  const total = blocks.reduce((sum, block) => sum + blockLinears(block).length, 2)
  let begun = 0
  return (name) => {
    throwIfAborted(signal)
    onProgress?.({ step: `writing ${name}`, done: begun++ / total })
  }
}

/** What a graph does not do as the model does. */
function notesOn({ blocks }: DecoderDescription, { quantization }: CheckpointWeights): string[] {
  const notes = new Set(roundingNotes(quantization, 'the graph'))
  for (const { attention } of blocks) {
    const scaling = attention.rotary?.scaling
    if (scaling?.kind !== 'dynamic' && scaling?.kind !== 'longrope') continue
    notes.add(
      `its ${scaling.kind} rotary angles change when a text grows beyond ${scaling.originalMaxPositions} tokens; keys ` +
        'that lie in the cache by then keep those they have',
    )
  }
  return [...notes]
}

/** A constant lies in one file, so a file of more than its bound holds one that is larger than that. */
function largeFileNotes(sizes: ReadonlyMap<string, number>, { fileBytes }: Placing): string[] {
  return [...sizes]
    .filter(([name, size]) => name.startsWith(`${FOLDER}/${MODEL_FILE}_data`) && size > fileBytes)
    .map(([name, size]) => {
      return `${name} has ${size} bytes, for one of its weights is larger than ${fileBytes}: browsers have no such buffers, Node has`
    })
}

function written(
  output: string,
  sizes: ReadonlyMap<string, number>,
  nodes: number,
  notes: readonly string[],
): ExportedOnnx {
  let [bytes, modelBytes] = [0, 0]
  for (const [name, size] of sizes) {
    bytes += size
    if (name.startsWith(`${FOLDER}/`)) modelBytes += size
  }
  return { output, files: [...sizes.keys()].sort(), bytes, modelBytes, nodes, notes }
}
