import { CheckpointError } from '../../common/errors.js'
import type { Checkpoint } from '../checkpoint.js'
import { fileIn, lastPart } from '../model-source.js'
import { quoted } from '../safetensors/header-text.js'
import { findTensor } from '../tensor-source.js'
import { type ModuleRecord, parseQuantizationConfig, type QuantizationConfig } from './quantized-config.js'
import { expectedTensors, isStoredName } from './quantized-tensors.js'
import { DIGEST_KEY, recordsDigest } from './records-digest.js'

/**
 * The quantization of a checkpoint, undefined when it is plain. Records and tensors account for each other: every
 * record has the tensors it asks for, in their shapes, no tensor of a quantized layer is without a record, and the
 * weights files were written for these records.
 *
 * @throws CheckpointError naming the tensor, layer or file, what was found and what was expected
 */
export function readQuantization(checkpoint: Checkpoint): QuantizationConfig | undefined {
  const { folder, files, config, tensors } = checkpoint
  const quantization = parseQuantizationConfig(config, fileIn(files, 'config.json'))
  const owners = new Map<string, string>()
  const records = new Map(Object.entries(quantization?.modules ?? {}))
  for (const [module, record] of records) {
    if (tensors.has(`${module}.weight`)) {
      throw new CheckpointError(
        `${folder}: ${quoted(module)} is stored both quantized and plain; expected one of the two. Quantize the model again`,
      )
    }
    for (const { name, dtype, shape } of expectedTensors(module, record)) {
      const found = findTensor(tensors, name, folder)
      requireSame(found.file, name, inWords(found.dtype, found.shape), inWords(dtype, shape))
      owners.set(name, module)
    }
  }
  for (const { name, file } of tensors.values()) {
    if (!isStoredName(name) || owners.has(name)) continue
    throw new CheckpointError(
      `${file}: tensor ${quoted(name)} is part of a quantized layer, but config.json has no record that asks for it. ` +
        NOT_TOGETHER,
    )
  }
  if (quantization !== undefined) requireDigests(checkpoint, owners, records)
  return quantization
}

/** Checks that each file was written for the records of the layers that have a tensor in it. */
function requireDigests(
  { tensors, metadata }: Checkpoint,
  owners: ReadonlyMap<string, string>,
  records: ReadonlyMap<string, ModuleRecord>,
): void {
  for (const [file, notes] of metadata) {
    const stated = notes.get(DIGEST_KEY)
    // folders of other writers, and those that a tool has stored anew, do not have one
    if (stated === undefined) continue
    const own = new Map<string, ModuleRecord>()
    for (const [name, module] of owners) {
      if (tensors.get(name)?.file === file) own.set(module, records.get(module)!)
    }
    const digest = recordsDigest(own)
    if (stated === digest) continue
    throw new CheckpointError(
      `${file}: was written for other records than those in config.json: ${lastPart(file)} says ${DIGEST_KEY} is ` +
        `${quoted(stated)}, the records give "${digest}". ${NOT_TOGETHER}`,
    )
  }
}

const NOT_TOGETHER =
  'config.json and the weights do not belong together, or were changed: quantize the model again'

function requireSame(file: string, name: string, found: string, expected: string): void {
  if (found === expected) return
  throw new CheckpointError(
    `${file}: tensor ${quoted(name)} is ${found}, its record asks for ${expected}. ${NOT_TOGETHER}`,
  )
}

function inWords(dtype: string, shape: readonly number[]): string {
  return `${dtype} ${shape.join(' x ') || 'scalar'}`
}
