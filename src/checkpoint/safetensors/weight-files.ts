import { CheckpointError } from '../../common/errors.js'
import {
  isOtherWeightsFile,
  isPlainFileName,
  SINGLE_WEIGHTS_FILE,
  WEIGHTS_INDEX_FILE,
} from '../folder-names.js'
import { isObject, readJsonObject } from '../json-file.js'
import { fileIn, type ModelSource } from '../model-source.js'
import type { TensorInfo } from '../tensor-source.js'
import { quoted } from './header-text.js'

/** Which safetensors files make up a checkpoint. */
export interface WeightFiles {
  /** Plain file names, in order. */
  readonly files: readonly string[]
  /** Tensor name to file name as the index promises; empty for a single file. */
  readonly index: ReadonlyMap<string, string>
}

/**
 * Finds the weights of a checkpoint folder: `model.safetensors`, or the shards of `model.safetensors.index.json`.
 *
 * @param names the files in the folder
 * @throws CheckpointError when there are none, a shard is missing, or the two disagree
 */
export async function findWeightFiles(source: ModelSource, names: readonly string[]): Promise<WeightFiles> {
  const folder = source.place
  if (!names.includes(WEIGHTS_INDEX_FILE)) {
    if (!names.includes(SINGLE_WEIGHTS_FILE)) throw noWeights(folder, names)
    return { files: [SINGLE_WEIGHTS_FILE], index: new Map() }
  }
  const index = await readIndex(source)
  const files = [...new Set(index.values())].sort()
  const missing = files.filter((file) => !names.includes(file))
  if (missing.length > 0) {
    throw new CheckpointError(
      `${folder}: ${missing.length} of ${files.length} weight files are missing: ${listed(missing)}. ` +
        `${WEIGHTS_INDEX_FILE} names them: fetch them again`,
    )
  }
  if (names.includes(SINGLE_WEIGHTS_FILE) && !files.includes(SINGLE_WEIGHTS_FILE)) {
    throw new CheckpointError(
      `${folder}: holds ${SINGLE_WEIGHTS_FILE} and also ${WEIGHTS_INDEX_FILE}, which names other files. ` +
        'Remove the one that does not belong to the model',
    )
  }
  return { files, index }
}

/**
 * Joins the tensors of all files.
 *
 * A tensor that a file holds and the index leaves out is taken: nothing of the model is dropped.
 *
 * @param found for each of `weights.files` the tensors it holds
 * @throws CheckpointError when two files hold the same tensor, or one is not where the index promises it
 */
export function joinTensors(
  folder: string,
  weights: WeightFiles,
  found: readonly ReadonlyMap<string, TensorInfo>[],
): Map<string, TensorInfo> {
  const tensors = new Map<string, TensorInfo>()
  const fileOf = new Map<string, string>()
  weights.files.forEach((file, i) => {
    for (const [name, info] of found[i]) {
      const other = fileOf.get(name)
      if (other !== undefined) {
        throw new CheckpointError(
          `${folder}: tensor ${quoted(name)} is both in ${other} and in ${file}; expected in one. The files are of different models or versions: fetch them again`,
        )
      }
      fileOf.set(name, file)
      tensors.set(name, info)
    }
  })
  for (const [name, promised] of weights.index) {
    const file = fileOf.get(name)
    if (file === promised) continue
    const instead = file === undefined ? '' : ` (it is in ${file})`
    throw new CheckpointError(
      `${folder}: ${WEIGHTS_INDEX_FILE} says that tensor ${quoted(name)} is in ${promised}, which does not hold it${instead}. The files are of different models or versions: fetch them again`,
    )
  }
  return tensors
}

async function readIndex(source: ModelSource): Promise<Map<string, string>> {
  const path = fileIn(source, WEIGHTS_INDEX_FILE)
  const { weight_map: weightMap } = await readJsonObject(source, WEIGHTS_INDEX_FILE)
  if (!isObject(weightMap) || Object.keys(weightMap).length === 0) {
    throw new CheckpointError(`${path}: has no "weight_map" object of tensor names and files. Fetch it again`)
  }
  const index = new Map<string, string>()
  for (const [tensor, file] of Object.entries(weightMap)) {
    if (typeof file !== 'string' || !isPlainFileName(file) || !file.endsWith('.safetensors')) {
      throw new CheckpointError(
        `${path}: puts tensor ${quoted(tensor)} into ${quoted(String(file))}; expected the name of a .safetensors file in the same folder`,
      )
    }
    index.set(tensor, file)
  }
  return index
}

function noWeights(folder: string, names: readonly string[]): CheckpointError {
  const expected = `expected ${SINGLE_WEIGHTS_FILE}, or ${WEIGHTS_INDEX_FILE} and its files`
  const otherNames = names.filter((name) => name.endsWith('.safetensors'))
  if (otherNames.length > 0) {
    const hint =
      otherNames.length === 1 ? `rename it to ${SINGLE_WEIGHTS_FILE}` : `fetch ${WEIGHTS_INDEX_FILE}`
    return new CheckpointError(
      `${folder}: holds ${listed(otherNames)}; ${expected}. If these are the weights, ${hint}`,
    )
  }
  const others = names.filter(isOtherWeightsFile)
  if (others.length === 0) {
    return new CheckpointError(`${folder}: holds no weights; ${expected}. Fetch the whole model`)
  }
  const file = others.find((name) => /\.gguf$/i.test(name))
  if (file !== undefined) {
    return new CheckpointError(
      `${folder}: its weights are not in the safetensors format: found ${listed(others)}; ${expected}. ` +
        `Give the GGUF file itself as the model: ${folder}/${file}`,
    )
  }
  return new CheckpointError(
    `${folder}: its weights are not in the safetensors format: found ${listed(others)}; ${expected}. ` +
      'Convert it with Python: from transformers import AutoModelForCausalLM; ' +
      `AutoModelForCausalLM.from_pretrained(${JSON.stringify(folder)}).save_pretrained("NEW_FOLDER", safe_serialization=True)`,
  )
}

function listed(names: readonly string[]): string {
  const shown = names.slice(0, 5).map(quoted).join(', ')
  return names.length > 5 ? `${shown} and ${names.length - 5} more` : shown
}
