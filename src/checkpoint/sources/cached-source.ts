import { type OptionNames, refuseUnknown } from '../../common/check-option.js'
import { UnsupportedError } from '../../common/errors.js'
import type { ModelSource } from '../model-source.js'
import { type BlobLike, blobSource } from './blob-source.js'
import {
  fileUrl,
  findFiles,
  type HttpSourceOptions,
  httpOptionNames,
  remoteOf,
  request,
  requireOk,
} from './http-source.js'

/** Options of {@link cachedSource}. */
export interface CachedSourceOptions extends HttpSourceOptions {
  /** Name of the cache, default `'gptvq-models'`. */
  readonly cache?: string
  /** Receives which file is fetched and the share of all files that is there, 0 to 1. */
  readonly onProgress?: (progress: { readonly step: string; readonly done: number }) => void
}

const optionNames: OptionNames<CachedSourceOptions> = { ...httpOptionNames, cache: true, onProgress: true }

/** What is used of a browser's cache storage. */
interface CacheLike {
  match(url: string): Promise<Response | undefined>
  put(url: string, response: Response): Promise<void>
}

/**
 * The files of a model behind a URL, fetched whole into the browser's cache storage the first time and read from there
 * ever after, offline too. `caches.delete('gptvq-models')` forgets them.
 *
 * @param url of the model's folder
 * @throws UnsupportedError where there is no cache storage: a page needs https, or localhost
 * @throws CheckpointError when a file cannot be fetched
 */
export async function cachedSource(url: string, options: CachedSourceOptions = {}): Promise<ModelSource> {
  refuseUnknown(options, optionNames)
  const { caches } = globalThis as { caches?: { open(name: string): Promise<CacheLike> } }
  if (caches === undefined) {
    throw new UnsupportedError(
      'there is no cache storage here: a browser has it for pages of https or localhost. Use httpSource',
    )
  }
  const remote = remoteOf(url, options)
  const cache = await caches.open(options.cache ?? 'gptvq-models')
  const fetched = async (name: string): Promise<BlobLike | undefined> => {
    const file = fileUrl(remote, name)
    const known = await cache.match(file)
    if (known !== undefined) return known.blob()
    const response = await request(file, remote.init)
    if (response.status === 404) return undefined
    requireOk(response, file)
    await cache.put(file, response)
    return (await cache.match(file))!.blob()
  }
  const blobs = new Map<string, BlobLike>()
  const take = async (name: string) => {
    const blob = blobs.get(name) ?? (await fetched(name))
    if (blob !== undefined) blobs.set(name, blob)
    return blob !== undefined
  }
  const read = async (name: string) => new Uint8Array(await blobs.get(name)!.arrayBuffer())
  const names = options.files ?? (await findFiles(take, read))
  for (const [i, name] of names.entries()) {
    options.onProgress?.({ step: `fetching ${name}`, done: i / names.length })
    await take(name)
  }
  options.onProgress?.({ step: 'fetched', done: 1 })
  return blobSource(remote.base.replace(/\/$/, ''), blobs)
}
