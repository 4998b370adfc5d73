import { requirePath } from '../check-option.js'
import { openGgufModel } from '../gguf/open-gguf-model.js'
import { isGgufPath } from '../gguf/read-gguf.js'
import { resolveModel } from '../hub/resolve-model.js'
import { type Checkpoint, openModelFolder } from './model-folder.js'

export type { Checkpoint } from './model-folder.js'

/**
 * Opens a model: a folder, of which it reads `config.json`, the index if there is one and the header of every
 * safetensors file, or a GGUF file, of which it reads the header; of the weights nothing. Call `close()` when done.
 *
 * The tensors of a GGUF file have the names and the order of rows of the model on the hub, and are read as F32:
 * exactly the values that their blocks stand for.
 *
 * @param name path of a folder with `config.json` and `model.safetensors`, or `model.safetensors.index.json` and
 *   shards; or of a `.gguf` file; or the name of a model on the hub, `org/name` or `org/name@revision`
 * @throws CheckpointError when one of these is missing, damaged, or they contradict each other
 * @throws UnsupportedError for a GGUF file of a kind that is not read
 */
export async function openCheckpoint(name: string): Promise<Checkpoint> {
  requirePath('folder', name)
  const model = await resolveModel(name)
  if (!isGgufPath(model)) return openModelFolder(model)
  const { files, config, ...source } = await openGgufModel(model)
  const configText = `${JSON.stringify(config, null, 2)}\n`
  const made = { otherFiles: [], madeFiles: files, metadata: new Map() }
  return { ...source, folder: model, config, configText, ...made }
}
