import { isGgufPath } from '../gguf/read-gguf.js'
import { resolveModel } from '../hub/resolve-model.js'
import { type FetchOptions, isModelSource, type ModelPlace, type ModelSource } from './model-source.js'
import { folderSource, singleFileSource } from './sources/folder-source.js'

/**
 * The files of a model. A name on the hub is fetched as far as it is not in the cache.
 *
 * @throws CheckpointError, UnsupportedError, AbortedError as `resolveModel`
 */
export async function locateModel(model: ModelPlace, options: FetchOptions = {}): Promise<ModelSource> {
  if (isModelSource(model)) return model
  const { onProgress, signal } = options
  const path = await resolveModel(model, { onProgress: onProgress && asStep(onProgress), signal })
  return isGgufPath(path) ? singleFileSource(path) : folderSource(path)
}

/** What is fetched before a work begins is none of its share: the step alone says how far that is. */
function asStep(onProgress: NonNullable<FetchOptions['onProgress']>): typeof onProgress {
  let last = ''
  return ({ step, done }) => {
    const text = `${step} (${Math.floor(100 * done)} %)`
    if (text !== last) onProgress({ step: text, done: 0 })
    last = text
  }
}
