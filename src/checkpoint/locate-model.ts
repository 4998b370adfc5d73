import { isGgufPath } from '../gguf/read-gguf.js'
import { resolveModel } from '../hub/resolve-model.js'
import { isModelSource, type ModelPlace, type ModelSource } from './model-source.js'
import { folderSource, singleFileSource } from './sources/folder-source.js'

/**
 * The files of a model. A name on the hub is fetched as far as it is not in the cache.
 *
 * @throws CheckpointError, UnsupportedError as `resolveModel`
 */
export async function locateModel(model: ModelPlace): Promise<ModelSource> {
  if (isModelSource(model)) return model
  const path = await resolveModel(model)
  return isGgufPath(path) ? singleFileSource(path) : folderSource(path)
}
