import { OptionError } from '../common/errors.js'
import { type FetchOptions, isModelSource, type ModelPlace, type ModelSource } from './model-source.js'
import { httpSource } from './sources/http-source.js'

/**
 * What stands in a browser in the place of `locate-model.ts`: a string is a URL there.
 *
 * @throws OptionError for a path: a page sees no disk
 */
export async function locateModel(model: ModelPlace, _: FetchOptions = {}): Promise<ModelSource> {
  if (isModelSource(model)) return model
  if (/^https?:\/\//i.test(model)) return httpSource(model)
  throw new OptionError(
    'model',
    `found ${JSON.stringify(model)}; in a browser expected a URL that begins with http:// or https://, or a ModelSource: ` +
      'blobSource for files that were picked, httpSource or cachedSource for files behind a URL',
  )
}
