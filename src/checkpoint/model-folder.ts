import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { CheckpointError } from '../errors.js'
import { createFilePool, type FilePool } from './byte-source.js'
import { fileError, systemErrorCode } from './file-errors.js'
import { CONFIG_FILE, isCompanionFile } from './folder-names.js'
import { readJsonText } from './json-file.js'
import { readSafetensors, type SafetensorsFile } from './safetensors/safetensors-reader.js'
import { findWeightFiles, joinTensors } from './safetensors/weight-files.js'
import { findTensor, type TensorSource, tensorSource } from './tensor-source.js'

/** An open model: a folder in the Hugging Face layout, or a GGUF file. */
export interface Checkpoint extends TensorSource {
  /** Its path, as given. */
  readonly folder: string
  /** `config.json` as parsed; of a GGUF file, rebuilt. */
  readonly config: Record<string, unknown>
  /** `config.json` as it is written. */
  readonly configText: string
  /**
   * Names of the small files that belong to any copy of the model (tokenizer, generation settings, chat template,
   * model card, licence), sorted. Neither weights nor `config.json`. Of a GGUF file none: see `madeFiles`.
   */
  readonly otherFiles: readonly string[]
  /** The `__metadata__` of each weights file, by its path. */
  readonly metadata: ReadonlyMap<string, ReadonlyMap<string, string>>
  /** Of a GGUF file: the same files as far as its metadata has what is in them, by name. */
  madeFiles?(): ReadonlyMap<string, string>
}

/** Weight files open at a time. */
const MAX_OPEN_FILES = 4

/** Larger files are not companions of the weights; the largest tokenizers have about 40 MB. */
const MAX_OTHER_FILE_BYTES = 256 * 2 ** 20

/**
 * Opens a model folder: reads `config.json`, the index if there is one and the header of every safetensors file, and
 * of the weights nothing. Call `close()` when done.
 *
 * @param folder path of a folder with `config.json` and `model.safetensors`, or `model.safetensors.index.json` and shards
 * @throws CheckpointError when the folder or one of these is missing, damaged, or they contradict each other
 */
export async function openModelFolder(folder: string): Promise<Checkpoint> {
  const names = await listFiles(folder)
  if (!names.includes(CONFIG_FILE)) {
    throw new CheckpointError(
      `${folder}: holds no ${CONFIG_FILE}, so it is not a model folder. Give the folder that the model was downloaded or saved to`,
    )
  }
  const { value: config, text: configText } = await readJsonText(join(folder, CONFIG_FILE))
  const otherFiles = await smallFiles(folder, names.filter(isCompanionFile))
  const pool = createFilePool(MAX_OPEN_FILES)
  try {
    return { ...(await openWeights(folder, names, pool)), folder, config, configText, otherFiles }
  } catch (error) {
    await pool.close()
    throw error
  }
}

async function openWeights(
  folder: string,
  names: readonly string[],
  pool: FilePool,
): Promise<TensorSource & Pick<Checkpoint, 'metadata'>> {
  const weights = await findWeightFiles(folder, names)
  const byPath = new Map<string, SafetensorsFile>()
  for (const name of weights.files) {
    const path = join(folder, name)
    byPath.set(path, await readSafetensors(await pool.open(path), pool.close))
  }
  const found = [...byPath.values()].map((file) => file.tensors)
  const tensors = joinTensors(folder, weights, found)
  const source = tensorSource(
    folder,
    tensors,
    (name, start, end) => byPath.get(findTensor(tensors, name, folder).file)!.readRange(name, start, end),
    pool.close,
  )
  return { ...source, metadata: new Map([...byPath].map(([path, file]) => [path, file.metadata])) }
}

/** Names of the plain files in `folder`, links to files among them, sorted. */
async function listFiles(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true })
    return entries
      .filter((entry) => !entry.isDirectory())
      .map((entry) => entry.name)
      .sort()
  } catch (error) {
    const code = systemErrorCode(error)
    if (code === 'ENOENT') {
      throw new CheckpointError(
        `${folder}: there is no such folder. Give the path of a model folder or GGUF file on this machine, or the name of a model on the hub (org/name)`,
        { cause: error },
      )
    }
    if (code === 'ENOTDIR') {
      throw new CheckpointError(
        `${folder}: is a file, expected a model folder. Give the folder that holds it`,
        {
          cause: error,
        },
      )
    }
    throw fileError(`cannot read the folder ${folder}`, error)
  }
}

async function smallFiles(folder: string, names: readonly string[]): Promise<string[]> {
  const small: string[] = []
  for (const name of names) {
    try {
      const found = await stat(join(folder, name))
      if (found.isFile() && found.size <= MAX_OTHER_FILE_BYTES) small.push(name)
    } catch (error) {
      throw fileError(`cannot read ${join(folder, name)}`, error)
    }
  }
  return small
}
