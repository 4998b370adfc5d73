import type { FileHandle } from 'node:fs/promises'
import { type Checkpoint, openCheckpoint } from '../checkpoint/checkpoint.js'
import { encodeFloats } from '../checkpoint/dtype.js'
import { writeAt } from '../checkpoint/file-system.js'
import { fetchOptionsOf } from '../checkpoint/model-source.js'
import { checkpointWeights } from '../checkpoint/model-weights.js'
import { requireOutputPlace, writeOutputFile } from '../checkpoint/output/output-file.js'
import { type OptionNames, refuseUnknown, requirePath } from '../common/check-option.js'
import { orNothingWritten, throwIfAborted } from '../common/errors.js'
import { requireRepresentable } from '../gguf/blocks/representable.js'
import { bytesOfType, type GgufType, ggufType } from '../gguf/blocks/tensor-types.js'
import { rotaryTensors } from '../gguf/rotary/rotary-tensors.js'
import { ggufTensors, type NamedTensor } from '../gguf/tensor-names.js'
import { requireKnownRule } from '../gguf/tokenizer/vocabulary-of-tokenizer.js'
import { aligned, ggufHeader } from '../gguf/write-header.js'
import { assertTensorShape } from '../model/decoder/weights.js'
import { describeDecoder } from '../model/families/index.js'
import { requireWholeModel } from '../pipeline/folders/whole-model.js'
import type { OnProgress } from '../pipeline/progress.js'
import { exportMetadata } from './gguf-metadata.js'
import { type ExportSource, type Loss, tensorData } from './gguf-tensor-data.js'
import { type GgufExportType, requireExportType, typeOfTensor } from './gguf-types.js'
import { roundingNotes } from './rounding-notes.js'

/** What to export, and where to. */
export interface ExportGgufOptions {
  /** A model folder, quantized or plain, or a `.gguf` file. */
  model: string
  /** The `.gguf` file to write. */
  output: string
  /**
   * How weights are stored. `'auto'`, the default: layers with plain int8 codebooks as Q8_0 with the same codes, scalar ones
   * of up to 4 bits as Q4_1 and of 5 as Q5_1 with the same codes, all others as they are. The other types are those of
   * all matrices; with fewer than 8 bits, embedding and output projection are Q8_0.
   */
  type?: GgufExportType
  /** The name that llama.cpp has for the rule by which the tokenizer cuts words, e.g. `'gpt-2'`. Default: recognised. */
  preTokenizer?: string
  /** Replace a GGUF file that is already there. Default false. */
  force?: boolean
  /** Receives what is being done and how much of it is done. */
  onProgress?: OnProgress
  /** Stops the work with an AbortedError; nothing is written then. */
  signal?: AbortSignal
}

const optionNames: OptionNames<ExportGgufOptions> = {
  model: true,
  output: true,
  type: true,
  preTokenizer: true,
  force: 'switch',
  onProgress: true,
  signal: true,
}

/** The tensors that were written in one type. */
export interface ExportedType {
  /** E.g. `'Q8_0'`. */
  readonly type: string
  /** How many tensors. */
  readonly tensors: number
  /** Their bytes. */
  readonly bytes: number
  /** How many of them have the very codes of the quantized model, so that only scales were rounded, to halves. */
  readonly sameCodes: number
  /** `norm(written - model) / norm(model)` over all their weights. */
  readonly addedError: number
}

/** A GGUF file that was written. */
export interface ExportedGguf {
  /** The file. */
  readonly output: string
  /** Its size. */
  readonly bytes: number
  /** `general.architecture`. */
  readonly architecture: string
  /** The types of tensors in it, in the order they first occur. */
  readonly types: readonly ExportedType[]
  /** What will be different in llama.cpp, in words. */
  readonly notes: readonly string[]
}

/** A tensor on its way to the file. */
interface Planned {
  readonly name: string
  readonly shape: readonly number[]
  readonly type: GgufType
  readonly bytes: number
  readonly offset: number
  /** Undefined for one that is made here. */
  readonly named: NamedTensor | undefined
  readonly values: Float32Array | undefined
}

const GGUF_FILE = { signature: 'GGUF', kind: 'a GGUF file' } as const

/**
 * Writes a model as a GGUF file, which llama.cpp runs: weights, sizes, tokenizer and chat template. The file is written
 * beside its place and moved there when it is whole.
 *
 * @throws OptionError; UnsupportedError for a family, setting or tokenizer that llama.cpp cannot express, naming it
 * @throws CheckpointError when the model is damaged or the file cannot be written; AbortedError when `signal` fires.
 *   What was at the place before is kept then
 */
export async function exportGguf(options: ExportGgufOptions): Promise<ExportedGguf> {
  refuseUnknown(options, optionNames)
  requirePath('model', options.model)
  requirePath('output', options.output)
  return orNothingWritten(() => exportModel(options))
}

async function exportModel(options: ExportGgufOptions): Promise<ExportedGguf> {
  const { model, output, type = 'auto', preTokenizer, force = false, onProgress } = options
  requireExportType(type)
  requireKnownRule(preTokenizer)
  await requireOutputPlace(output, { ...GGUF_FILE, force })
  const checkpoint = await openCheckpoint(model, fetchOptionsOf(options))
  try {
    const decoder = describeDecoder(checkpoint.config, `${model}: config.json`)
    const { architecture, notes } = requireRepresentable(decoder, model)
    const source = exportSource(checkpoint)
    requireWholeModel(checkpoint, decoder, source.weights.quantization)
    const named = ggufTensors(decoder, architecture)
    requireTensors(source, named)
    const metadata = await exportMetadata(checkpoint, decoder, architecture, { type, preTokenizer })
    const chosen = (one: NamedTensor) => typeOfTensor(one, type, checkpoint, source.records)
    const planned = plan(
      named.map((one) => ({ named: one, values: undefined, ...one, type: chosen(one) })),
      rotaryTensors(decoder).map(({ name, values }) => {
        return { name, values, named: undefined, shape: [values.length], type: ggufType('F32') }
      }),
    )
    const written = await writeOutputFile(output, { ...GGUF_FILE, force }, (handle) =>
      writeFile(handle, ggufHeader(metadata.values, planned), planned, source, options),
    )
    onProgress?.({ step: `writing ${output}`, done: 1 })
    const rounding = roundingNotes(source.weights.quantization, 'llama.cpp')
    return {
      output,
      architecture: architecture.name,
      ...written,
      notes: [...checkpoint.notes, ...notes, ...metadata.notes, ...rounding],
    }
  } finally {
    await checkpoint.close()
  }
}

function exportSource(checkpoint: Checkpoint): ExportSource {
  const weights = checkpointWeights(checkpoint)
  const modules = Object.entries(weights.quantization?.modules ?? {})
  const records = new Map(modules.map(([module, record]) => [`${module}.weight`, record]))
  return { checkpoint, weights, records }
}

/** A model that lacks a tensor is found out before anything is written. */
function requireTensors({ weights }: ExportSource, named: readonly NamedTensor[]): void {
  for (const { sources, sourceShape } of named) {
    for (const name of sources) assertTensorShape(weights, name, sourceShape, 'the architecture')
  }
}

function plan(...lists: readonly Omit<Planned, 'bytes' | 'offset'>[][]): Planned[] {
  let offset = 0
  return lists.flat().map(({ name, shape, type, named, values }) => {
    const bytes = bytesOfType(
      type,
      shape.reduce((product, size) => product * size, 1),
    )
    const planned = { name, shape, type, named, values, bytes, offset }
    offset += aligned(bytes)
    return planned
  })
}

async function writeFile(
  handle: FileHandle,
  header: Uint8Array,
  planned: readonly Planned[],
  source: ExportSource,
  { onProgress, signal }: ExportGgufOptions,
): Promise<{ readonly bytes: number; readonly types: readonly ExportedType[] }> {
  await writeAt(handle, header, 0)
  const totals = new Map<string, ExportedType & { readonly loss: Loss }>()
  let end = header.length
  for (const [i, one] of planned.entries()) {
    throwIfAborted(signal)
    onProgress?.({ step: `writing ${one.name}`, done: i / planned.length })
    const start = header.length + one.offset
    const { exact, loss } = await writeTensor(handle, start, one, source)
    addTotals(totals, one, exact, loss)
    end = start + aligned(one.bytes)
    await writeAt(handle, new Uint8Array(end - start - one.bytes), start + one.bytes)
  }
  const types = [...totals.values()].map(({ loss: { difference, norm }, ...type }) => {
    return { ...type, addedError: norm > 0 ? Math.sqrt(difference / norm) : 0 }
  })
  return { bytes: end, types }
}

async function writeTensor(
  handle: FileHandle,
  start: number,
  { type, named, values }: Planned,
  source: ExportSource,
): Promise<{ exact: boolean; loss: Loss }> {
  const loss = { difference: 0, norm: 0 }
  if (named === undefined) {
    await writeAt(handle, encodeFloats('F32', values ?? new Float32Array()), start)
    return { exact: false, loss }
  }
  const data = tensorData(source, named, type, loss)
  let position = start
  for (;;) {
    const { done, value } = await data.next()
    if (done) return { exact: value, loss }
    await writeAt(handle, value, position)
    position += value.length
  }
}

function addTotals(
  totals: Map<string, ExportedType & { readonly loss: Loss }>,
  { type: { name }, bytes }: Planned,
  exact: boolean,
  loss: Loss,
): void {
  const before = totals.get(name)
  totals.set(name, {
    type: name,
    tensors: (before?.tensors ?? 0) + 1,
    bytes: (before?.bytes ?? 0) + bytes,
    sameCodes: (before?.sameCodes ?? 0) + (exact ? 1 : 0),
    addedError: 0,
    loss: {
      difference: (before?.loss.difference ?? 0) + loss.difference,
      norm: (before?.loss.norm ?? 0) + loss.norm,
    },
  })
}
