import { refuseUnknown } from '../common/check-option.js'
import { openGgufModel } from '../gguf/open-gguf-model.js'
import { locateModel } from './locate-model.js'
import { type Checkpoint, openModelFolder } from './model-folder.js'
import {
  type FetchOptions,
  fetchOptionNames,
  type ModelPlace,
  type ModelSource,
  requireModel,
} from './model-source.js'
import { withTiedHead } from './tied-head.js'

export type { Checkpoint } from './model-folder.js'

/**
 * Opens a model: a folder, of which it reads `config.json`, the index if there is one and the header of every
 * safetensors file, or a GGUF file, of which it reads the header; of the weights nothing, unless a head is stored that is
 * tied to the embedding: the two are compared, and the copy is left out. Call `close()` when done.
 *
 * The tensors of a GGUF file have the names and the order of rows of the model on the hub, and are read as F32:
 * exactly the values that their blocks stand for.
 *
 * @param name path of a folder with `config.json` and `model.safetensors`, or `model.safetensors.index.json` and
 *   shards; or of a `.gguf` file; or the name of a model on the hub, `org/name` or `org/name@revision`; or such files
 *   wherever they lie. In a browser a string is a URL
 * @param options for a model that has to be fetched from the hub: receives how far that is, and stops it
 * @throws CheckpointError when one of these is missing, damaged, or they contradict each other
 * @throws UnsupportedError for a GGUF file of a kind that is not read; OptionError; AbortedError
 */
export async function openCheckpoint(name: ModelPlace, options: FetchOptions = {}): Promise<Checkpoint> {
  refuseUnknown(options, fetchOptionNames)
  requireModel('folder', name)
  const files = await locateModel(name, options)
  try {
    if (files.main !== undefined) return await openModelFile(files)
    return await withTiedHead(await openModelFolder(files))
  } catch (error) {
    await files.close?.()
    throw error
  }
}

async function openModelFile(source: ModelSource): Promise<Checkpoint> {
  const { files, config, ...tensors } = await openGgufModel(source)
  const configText = `${JSON.stringify(config, null, 2)}\n`
  const made = { otherFiles: [], notes: [], madeFiles: files, metadata: new Map() }
  return { ...tensors, folder: source.place, files: source, config, configText, ...made }
}
