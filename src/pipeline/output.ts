import { join } from 'node:path'
import type { Checkpoint } from '../checkpoint/checkpoint.js'
import {
  type CheckpointWriter,
  createCheckpointWriter,
  type WrittenCheckpoint,
} from '../checkpoint/checkpoint-writer.js'
import { isFloatDtype } from '../checkpoint/dtype.js'
import {
  FORMAT_VERSION,
  type ModuleRecord,
  QUANT_METHOD,
  type QuantizationConfig,
} from '../checkpoint/quantized-config.js'
import { recordOf, storedTensors } from '../checkpoint/quantized-tensors.js'
import { findTensor } from '../checkpoint/tensor-source.js'
import { pack, type QuantizedLayer } from '../packing/quantized-layer.js'
import type { MethodSettings } from './quantize-options.js'

/** A quantized folder being written: layers as they come, all else at the end. */
export interface QuantizedOutput {
  /** @param module the weight's name less `.weight` */
  addLayer(module: string, layer: QuantizedLayer, relativeError: number | null): Promise<void>
  /** Copies all other tensors and files, writes `config.json` and moves the folder to its place. */
  finish(): Promise<WrittenCheckpoint>
  discard(): Promise<void>
}

/** Where and how a folder is written. */
export interface OutputOptions {
  /** Replace a model folder that is already there. Default false. */
  force?: boolean
  /** Bytes of tensors in one file, default 5e9. */
  maxShardBytes?: number
}

/** Begins to write the quantized form of `checkpoint`. @throws CheckpointError when the place cannot be written to */
export async function createQuantizedOutput(
  folder: string,
  checkpoint: Checkpoint,
  { method, stated }: MethodSettings,
  options: OutputOptions,
): Promise<QuantizedOutput> {
  const writer = await createCheckpointWriter(folder, options)
  const modules = new Map<string, ModuleRecord>()
  return {
    async addLayer(module, layer, relativeError) {
      const packed = pack(layer)
      const { dtype } = findTensor(checkpoint.tensors, `${module}.weight`, checkpoint.folder)
      modules.set(module, recordOf(packed, isFloatDtype(dtype) ? dtype : 'F32', relativeError))
      for (const { name, dtype, shape, bytes } of storedTensors(module, packed)) {
        await writer.add(name, dtype, shape, bytes)
      }
    },
    async finish() {
      const replaced = new Set([...modules.keys()].map((module) => `${module}.weight`))
      await copyTensors(checkpoint, writer, (name) => !replaced.has(name))
      await copyFiles(checkpoint, writer)
      const quantization: QuantizationConfig = {
        quant_method: QUANT_METHOD,
        version: FORMAT_VERSION,
        method,
        settings: stated,
        modules: Object.fromEntries(modules),
      }
      await addConfig(writer, { ...checkpoint.config, quantization_config: quantization })
      return writer.finish()
    },
    discard: writer.discard,
  }
}

/** Copies tensors as they are stored. */
export async function copyTensors(
  checkpoint: Checkpoint,
  writer: CheckpointWriter,
  wanted: (name: string) => boolean,
): Promise<void> {
  for (const { name, dtype, shape } of checkpoint.tensors.values()) {
    if (wanted(name)) await writer.add(name, dtype, shape, await checkpoint.readBytes(name))
  }
}

/** Copies the tokenizer and the other files that belong to any copy of a model. */
export async function copyFiles(checkpoint: Checkpoint, writer: CheckpointWriter): Promise<void> {
  for (const name of checkpoint.otherFiles) await writer.copyFile(join(checkpoint.folder, name))
}

/** Writes `config.json` as people read it. */
export async function addConfig(writer: CheckpointWriter, config: Record<string, unknown>): Promise<void> {
  await writer.addFile('config.json', `${JSON.stringify(config, null, 2)}\n`)
}
