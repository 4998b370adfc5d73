import { join } from 'node:path'
import type { Checkpoint } from '../../checkpoint/checkpoint.js'
import {
  bytesPerElement,
  type Dtype,
  decodeFloats,
  encodeFloats,
  type FloatDtype,
  firstNonFinite,
  isFloatDtype,
} from '../../checkpoint/dtype.js'
import { joinMembers, memberOf, membersOf } from '../../checkpoint/json-members.js'
import {
  type CheckpointWriter,
  createCheckpointWriter,
  type WrittenCheckpoint,
} from '../../checkpoint/output/checkpoint-writer.js'
import {
  type ModuleRecord,
  QUANT_METHOD,
  type QuantizationConfig,
  versionOf,
} from '../../checkpoint/quantized/quantized-config.js'
import { recordOf, storedTensors } from '../../checkpoint/quantized/quantized-tensors.js'
import { DIGEST_KEY, recordsDigest } from '../../checkpoint/quantized/records-digest.js'
import type { StoredActivations } from '../../checkpoint/quantized/stored-activations.js'
import { findTensor } from '../../checkpoint/tensor-source.js'
import { throwIfAborted } from '../../common/errors.js'
import { nonFiniteError } from '../../common/matrix.js'
import { pack, type QuantizedLayer } from '../../packing/quantized-layer.js'
import type { LayerReport } from '../quantize/layers/layer-report.js'
import { requireDistinctFolders } from './distinct-folders.js'
import { recordFormat } from './inspect-model.js'
import { CARD_FILE, type CardLayer, isCard, quantizedCard, sourceCard } from './model-card.js'

/** What the folder says of how well a layer was quantized. */
type Measured = Pick<LayerReport, 'relativeError' | 'drift'>

/** A quantized folder being written: first all that stays as it is, then the layers as they come. */
export interface QuantizedOutput {
  /** Where it will be. */
  readonly folder: string
  /** @param module the weight's name less `.weight` */
  addLayer(module: string, layer: QuantizedLayer, measured: Measured): Promise<void>
  /** A plain tensor among those replaced, in the dtype it has in the model where that holds it exactly, else as float32. */
  addTensor(name: string, values: Float32Array): Promise<void>
  /** Writes `config.json` and moves the folder to its place. */
  finish(activations?: StoredActivations): Promise<WrittenCheckpoint>
  discard(): Promise<void>
}

/** Tensors with new values. */
export interface ChangedTensors {
  readonly names: ReadonlySet<string>
  floats(name: string): Promise<Float32Array>
}

/** Where and how a folder is written. */
export interface OutputOptions {
  /** Replace a model folder that is already there. Default false. */
  force?: boolean
  /** Bytes of tensors in one file, default 5e9. */
  maxShardBytes?: number
}

/**
 * Begins to write the quantized form of `checkpoint`, and copies all of it that stays as it is: what is damaged there,
 * or does not fit the disk, is found before hours of work.
 *
 * @param replaced names of the tensors that will come, as quantized layers or with other values
 * @throws CheckpointError when the place cannot be written to, NumericError when a copied tensor is not finite
 */
export async function createQuantizedOutput(
  folder: string,
  checkpoint: Checkpoint,
  replaced: ReadonlySet<string>,
  made: Pick<QuantizationConfig, 'method' | 'run'> & {
    readonly stated: QuantizationConfig['settings']
    /** Plain tensors that are not as in the checkpoint. */
    readonly changed?: ChangedTensors | undefined
  },
  options: OutputOptions & { readonly partial?: string | undefined; readonly signal?: AbortSignal },
): Promise<QuantizedOutput> {
  await requireDistinctFolders(checkpoint.folder, folder)
  const modules = new Map<string, ModuleRecord>()
  const owners = new Map<string, string>()
  const metadata = (names: readonly string[]) => {
    const own = new Map<string, ModuleRecord>()
    for (const name of names) {
      const module = owners.get(name)
      if (module !== undefined) own.set(module, modules.get(module)!)
    }
    return { format: 'pt', [DIGEST_KEY]: recordsDigest(own) }
  }
  const { force, maxShardBytes, partial } = options
  const place = partial === undefined ? {} : { partial }
  const source = await sourceCard(checkpoint)
  const writer = await createCheckpointWriter(folder, { force, maxShardBytes, metadata, ...place })
  const layers: CardLayer[] = []
  let bytesNow = 0
  let changed = 0
  const add: CheckpointWriter['add'] = (name, dtype, shape, bytes) => {
    bytesNow += bytes.length
    return writer.add(name, dtype, shape, bytes)
  }
  const addOther = async (name: string, values: Float32Array) => {
    if (await addChanged(checkpoint, { add }, name, values)) changed++
  }
  try {
    const isChanged = (name: string) => made.changed?.names.has(name) ?? false
    const isCopied = (name: string) => !replaced.has(name) && !isChanged(name)
    await copyTensors(checkpoint, { add }, isCopied, options.signal)
    for (const name of made.changed?.names ?? []) {
      if (!replaced.has(name)) await addOther(name, await made.changed!.floats(name))
    }
    await copyFiles(checkpoint, writer)
  } catch (error) {
    await writer.discard()
    throw error
  }
  return {
    folder,
    async addLayer(module, layer, { relativeError, drift }) {
      const packed = pack(layer)
      const { dtype } = findTensor(checkpoint.tensors, `${module}.weight`, checkpoint.folder)
      const record = recordOf(packed, isFloatDtype(dtype) ? dtype : 'F32', relativeError, drift?.move)
      modules.set(module, record)
      const before = bytesNow
      for (const { name, dtype, shape, bytes } of storedTensors(module, packed)) {
        owners.set(name, module)
        await add(name, dtype, shape, bytes)
      }
      const [rows, cols] = record.shape
      const format = recordFormat(record)
      layers.push({ format, values: rows * cols, bytes: bytesNow - before, relativeError })
    },
    addTensor: addOther,
    async finish(activations) {
      const quantization: QuantizationConfig = {
        quant_method: QUANT_METHOD,
        version: versionOf(modules.values()),
        method: made.method,
        settings: made.stated,
        ...(made.run && { run: made.run }),
        ...(activations && { activations }),
        modules: Object.fromEntries(modules),
      }
      const whole = { ...sizesOf(checkpoint), bytes: bytesNow }
      await writer.addFile(CARD_FILE, quantizedCard({ quantization, layers, changed, whole }, source))
      await addConfig(writer, checkpoint, quantization)
      return writer.finish()
    },
    discard: writer.discard,
  }
}

/**
 * Writes the new values of a tensor in its own dtype where that holds them exactly, else as float32.
 *
 * @returns whether they are other ones
 */
async function addChanged(
  checkpoint: Checkpoint,
  writer: Pick<CheckpointWriter, 'add'>,
  name: string,
  values: Float32Array,
): Promise<boolean> {
  const { dtype: own, shape } = findTensor(checkpoint.tensors, name, checkpoint.folder)
  const dtype = dtypeThatHolds(values, isFloatDtype(own) ? own : 'F32')
  const bytes = encodeFloats(dtype, values)
  assertFiniteBytes(name, dtype, shape, bytes)
  await writer.add(name, dtype, shape, bytes)
  if (dtype !== own) return true
  const before = await checkpoint.readBytes(name)
  return bytes.some((byte, i) => byte !== before[i])
}

/** A dtype where it holds all of the values exactly, else float32. */
export function dtypeThatHolds(values: Float32Array, dtype: FloatDtype): FloatDtype {
  const kept = decodeFloats(dtype, encodeFloats(dtype, values))
  return values.every((value, i) => value === kept[i]) ? dtype : 'F32'
}

/** Copies tensors as they are stored. @throws NumericError naming a tensor that holds NaN or infinity */
export async function copyTensors(
  checkpoint: Checkpoint,
  writer: Pick<CheckpointWriter, 'add'>,
  wanted: (name: string) => boolean,
  signal?: AbortSignal,
): Promise<void> {
  for (const { name, dtype, shape } of checkpoint.tensors.values()) {
    if (!wanted(name)) continue
    throwIfAborted(signal)
    const bytes = await checkpoint.readBytes(name)
    assertFiniteBytes(name, dtype, shape, bytes)
    await writer.add(name, dtype, shape, bytes)
  }
}

/** Refuses a tensor that holds NaN or infinity. @throws NumericError naming it, the row and the column */
export function assertFiniteBytes(
  name: string,
  dtype: Dtype,
  shape: readonly number[],
  bytes: Uint8Array,
): void {
  const at = firstNonFinite(dtype, bytes)
  if (at < 0) return
  const width = bytesPerElement(dtype)
  const [value] = decodeFloats(dtype, bytes.subarray(at * width, (at + 1) * width))
  throw nonFiniteError(value, at, shape.at(-1) ?? 1, name)
}

/**
 * Copies the tokenizer and the other files that belong to any copy of a model, or writes those a GGUF file stands for. The
 * model card is not among them: it tells of the weights.
 */
export async function copyFiles(checkpoint: Checkpoint, writer: CheckpointWriter): Promise<void> {
  for (const [name, text] of checkpoint.madeFiles?.() ?? []) await writer.addFile(name, text)
  for (const name of checkpoint.otherFiles) {
    if (!isCard(name)) await writer.copyFile(join(checkpoint.folder, name))
  }
}

function sizesOf({ tensors }: Checkpoint): { values: number; bytesBefore: number } {
  let [values, bytesBefore] = [0, 0]
  for (const { shape, bytes } of tensors.values()) {
    values += shape.reduce((product, size) => product * size, 1)
    bytesBefore += bytes
  }
  return { values, bytesBefore }
}

/**
 * Writes `config.json`: that of `checkpoint`, its numbers spelt as they are there, with what was done to the weights, or
 * without it.
 *
 * @param dtype of all weights, as transformers calls it; left out: what the file says
 */
export async function addConfig(
  writer: CheckpointWriter,
  { configText }: Checkpoint,
  quantization: QuantizationConfig | undefined,
  dtype?: string,
): Promise<void> {
  const members = membersOf(configText)
  if (dtype !== undefined) setDtype(members, dtype)
  members.delete('quantization_config')
  if (quantization !== undefined) members.set('quantization_config', memberOf(quantization))
  await writer.addFile('config.json', joinMembers(members))
}

/** Under the names that the file has for it, else the one that all releases of transformers know. */
function setDtype(members: Map<string, string>, dtype: string): void {
  const names = ['dtype', 'torch_dtype'].filter((name) => members.has(name))
  for (const name of names.length > 0 ? names : ['torch_dtype']) members.set(name, memberOf(dtype))
}
