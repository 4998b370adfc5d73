import { CheckpointError } from '../common/errors.js'
import { CONFIG_FILE, isCompanionFile } from './folder-names.js'
import { readJsonText } from './json-file.js'
import type { ModelSource } from './model-source.js'
import { readSafetensors, type SafetensorsFile } from './safetensors/safetensors-reader.js'
import { findWeightFiles, joinTensors } from './safetensors/weight-files.js'
import { findTensor, type TensorSource, tensorSource } from './tensor-source.js'

/** An open model: a folder in the Hugging Face layout, or a GGUF file. */
export interface Checkpoint extends TensorSource {
  /** Its path, as given; of a source the place that errors name. */
  readonly folder: string
  /** Where its files are read from. */
  readonly files: ModelSource
  /** `config.json` as parsed; of a GGUF file, rebuilt. */
  readonly config: Record<string, unknown>
  /** `config.json` as it is written. */
  readonly configText: string
  /**
   * Names of the small files that belong to any copy of the model (tokenizer, generation settings, chat template,
   * model card, licence), sorted. Neither weights nor `config.json`. Of a GGUF file none: see `madeFiles`.
   */
  readonly otherFiles: readonly string[]
  /** What a person should know of these: that some are links out of the folder, or lead nowhere and are left out. */
  readonly notes: readonly string[]
  /** The `__metadata__` of each weights file, by its path. */
  readonly metadata: ReadonlyMap<string, ReadonlyMap<string, string>>
  /** Of a GGUF file: the same files as far as its metadata has what is in them, by name. */
  madeFiles?(): ReadonlyMap<string, string>
}

/** Larger files are not companions of the weights; the largest tokenizers have about 40 MB. */
const MAX_OTHER_FILE_BYTES = 256 * 2 ** 20

/**
 * Opens a model folder: reads `config.json`, the index if there is one and the header of every safetensors file, and
 * of the weights nothing. Call `close()` when done.
 *
 * @param files with `config.json` and `model.safetensors`, or `model.safetensors.index.json` and shards
 * @throws CheckpointError when the folder or one of these is missing, damaged, or they contradict each other
 */
export async function openModelFolder(files: ModelSource): Promise<Checkpoint> {
  const { place: folder } = files
  const names = await files.list()
  if (!names.includes(CONFIG_FILE)) {
    throw new CheckpointError(
      `${folder}: holds no ${CONFIG_FILE}, so it is not a model folder. Give the folder that the model was downloaded or saved to`,
    )
  }
  const { value: config, text: configText } = await readJsonText(files, CONFIG_FILE)
  const companions = await findCompanions(files, names.filter(isCompanionFile))
  const opened = await openWeights(files, names)
  return { ...opened, folder, files, config, configText, ...companions }
}

async function openWeights(
  files: ModelSource,
  names: readonly string[],
): Promise<TensorSource & Pick<Checkpoint, 'metadata'>> {
  const { place: folder } = files
  const close = async () => files.close?.()
  const weights = await findWeightFiles(files, names)
  const byPath = new Map<string, SafetensorsFile>()
  for (const name of weights.files) {
    const file = await readSafetensors(await files.open(name), close)
    byPath.set(file.path, file)
  }
  const found = [...byPath.values()].map((file) => file.tensors)
  const tensors = joinTensors(folder, weights, found)
  const source = tensorSource(
    folder,
    tensors,
    (name, start, end) => byPath.get(findTensor(tensors, name, folder).file)!.readRange(name, start, end),
    close,
  )
  return { ...source, metadata: new Map([...byPath].map(([path, file]) => [path, file.metadata])) }
}

async function findCompanions(
  source: ModelSource,
  names: readonly string[],
): Promise<Pick<Checkpoint, 'otherFiles' | 'notes'>> {
  const otherFiles: string[] = []
  const notes: string[] = []
  for (const name of names) {
    const link = await source.outwardLink?.(name)
    if (link?.isBroken) {
      notes.push(`${name} is a link to ${link.to}, where there is nothing; copies of the model go without it`)
      continue
    }
    const bytes = await source.size(name)
    if (bytes === undefined || bytes > MAX_OTHER_FILE_BYTES) continue
    otherFiles.push(name)
    if (link !== undefined) {
      notes.push(`${name} is a link out of the folder, to ${link.to}; copies of the model hold what is there`)
    }
  }
  return { otherFiles, notes }
}
