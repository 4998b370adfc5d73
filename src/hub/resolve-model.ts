import { randomBytes } from 'node:crypto'
import { access, mkdir, readFile, rename, symlink, writeFile } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import {
  CONFIG_FILE,
  isCompanionFile,
  SINGLE_WEIGHTS_FILE,
  WEIGHTS_INDEX_FILE,
} from '../checkpoint/folder-names.js'
import { isObject, readJsonObject } from '../checkpoint/json-file.js'
import { folderSource } from '../checkpoint/sources/folder-source.js'
import { type OptionNames, refuseUnknown, requirePath, requireWhole } from '../common/check-option.js'
import { CheckpointError, throwIfAborted, UnsupportedError } from '../common/errors.js'
import { inCache, sizeOf } from './cache-files.js'
import { fetchBlob, type HubFile } from './fetch-blob.js'
import { networkError, statusError } from './hub-errors.js'
import { hubFetch, STAND_IN_TOKEN } from './hub-fetch.js'
import { type HubName, type HubSettings, hubSettings, parseHubName, repoFolder } from './hub-settings.js'

/** Options of {@link resolveModel}. */
export interface ResolveOptions {
  /** Receives which file is fetched and the share of all bytes that is there, 0 to 1. */
  readonly onProgress?: ((progress: { readonly step: string; readonly done: number }) => void) | undefined
  /** Stops the work; what was fetched stays and is gone on from. */
  readonly signal?: AbortSignal | undefined
  /** Default: those of the process. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Milliseconds before a failed request is tried again, default 500; each further time twice as long. */
  readonly patience?: number
}

const optionNames: OptionNames<ResolveOptions> = { onProgress: true, signal: true, env: true, patience: true }

/** Snapshots that this process has found whole, by endpoint, cache and name. */
const known = new Map<string, string>()

/**
 * The path of a model: a folder or file as it is, and for `org/name` or `org/name@revision` that is no path on this
 * machine the snapshot of that model in the hub's cache, fetched as far as it is not there. Only the files that are
 * needed are fetched, and each is checked by size and hash.
 *
 * @throws CheckpointError when the hub refuses, cannot be reached, or gives something else than it promised, or when the
 *   cache cannot be written; AbortedError
 * @throws UnsupportedError when the model has no safetensors weights
 */
export async function resolveModel(model: string, options: ResolveOptions = {}): Promise<string> {
  requirePath('model', model)
  refuseUnknown(options, optionNames)
  if (options.patience !== undefined) requireWhole('patience', options.patience, 0)
  const name = parseHubName(model)
  if (name === undefined || (await isThere(model))) return model
  const settings = hubSettings(options.env ?? process.env)
  const key = [settings.endpoint, settings.cache, model].join('\n')
  const before = known.get(key)
  if (before !== undefined && (await isThere(before))) return before
  const snapshot = settings.offline
    ? await cachedSnapshot(settings, name)
    : await fetchSnapshot(settings, name, options)
  known.set(key, snapshot)
  return snapshot
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

async function cachedSnapshot(settings: HubSettings, name: HubName): Promise<string> {
  const folder = repoFolder(settings, name)
  const commit = await readFile(join(folder, 'refs', name.revision), 'utf8').then(
    (text) => text.trim(),
    () => name.revision,
  )
  const snapshot = join(folder, 'snapshots', commit)
  if (await isThere(join(snapshot, CONFIG_FILE))) return snapshot
  throw new CheckpointError(
    `${name.repo}@${name.revision}: is not in the cache ${settings.cache}, and HF_HUB_OFFLINE forbids to fetch it. Fetch it once without, or give a folder`,
  )
}

async function fetchSnapshot(settings: HubSettings, name: HubName, options: ResolveOptions): Promise<string> {
  throwIfAborted(options.signal)
  const { commit, files } = await listModel(settings, name, options)
  const folder = repoFolder(settings, name)
  const snapshot = join(folder, 'snapshots', commit)
  const one = (file: HubFile) => fetchFile(settings, { ...name, revision: commit }, folder, snapshot, file)
  const small = files.filter(({ path }) => !path.endsWith('.safetensors'))
  const index = small.find(({ path }) => path === WEIGHTS_INDEX_FILE)
  if (index !== undefined) await one(index)(options, () => {})
  const weights = await weightFiles(name, snapshot, files, index !== undefined)
  const wanted = [...small, ...weights]
  const total = wanted.reduce((sum, { size }) => sum + size, 0)
  let before = 0
  for (const file of wanted) {
    const step = `fetching ${name.repo} ${file.path}`
    const tell = (bytes: number) =>
      options.onProgress?.({ step, done: (before + bytes) / Math.max(1, total) })
    tell(0)
    await one(file)(options, tell)
    before += file.size
  }
  if (commit !== name.revision) await writeReference(join(folder, 'refs', name.revision), commit)
  return snapshot
}

/** The commit that a revision stands for, and the files that are needed of a model. */
async function listModel(
  settings: HubSettings,
  name: HubName,
  { signal, patience }: ResolveOptions,
): Promise<{ readonly commit: string; readonly files: readonly HubFile[] }> {
  const { HubApiError, listFiles, modelInfo } = await import('@huggingface/hub')
  let code: string | null = null
  const retrying = hubFetch(settings, { signal, patience })
  const request = {
    hubUrl: settings.endpoint,
    ...(settings.token !== undefined && { accessToken: STAND_IN_TOKEN }),
    fetch: async (input: string | URL | Request, init?: RequestInit) => {
      const response = await retrying(input, init)
      code = response.headers.get('X-Error-Code')
      return response
    },
  }
  try {
    const { sha: commit } = await modelInfo({
      ...request,
      name: name.repo,
      revision: name.revision,
      additionalFields: ['sha'],
    })
    const files: HubFile[] = []
    for await (const entry of listFiles({ ...request, repo: name.repo, revision: commit })) {
      if (entry.type !== 'file' || !isWanted(entry.path)) continue
      const { path, size, oid, lfs } = entry
      const etag = lfs?.oid ?? oid
      if (etag === undefined)
        throw new CheckpointError(`${name.repo}: the hub names no hash of ${path}; try again later`)
      files.push({ path, size, etag, large: lfs !== undefined })
    }
    return { commit, files }
  } catch (error) {
    if (error instanceof CheckpointError) throw error
    if (!(error instanceof HubApiError)) throw networkError(error, name, settings, signal)
    throw statusError({ status: error.statusCode, code }, name, settings)
  }
}

function isWanted(path: string): boolean {
  if (path === CONFIG_FILE || path === WEIGHTS_INDEX_FILE) return true
  return !path.includes('/') && (path.endsWith('.safetensors') || isCompanionFile(path))
}

async function weightFiles(
  { repo, revision }: HubName,
  snapshot: string,
  files: readonly HubFile[],
  indexed: boolean,
): Promise<readonly HubFile[]> {
  const names = indexed ? await indexNames(snapshot) : new Set([SINGLE_WEIGHTS_FILE])
  const found = files.filter(({ path }) => names.has(path))
  if (found.length === names.size) return found
  throw new UnsupportedError(
    `${repo}@${revision}: has no safetensors weights (expected ${[...names].slice(0, 3).join(', ')}). ` +
      'Look for a conversion of it, or fetch a GGUF file of it and give its path',
  )
}

async function indexNames(snapshot: string): Promise<Set<string>> {
  const source = folderSource(snapshot)
  const { weight_map: map } = await readJsonObject(source, WEIGHTS_INDEX_FILE).finally(source.close)
  return new Set(isObject(map) ? Object.values(map).map(String) : [])
}

/** Fetches a file unless it is there, and links to it from the snapshot. */
function fetchFile(
  settings: HubSettings,
  name: HubName,
  folder: string,
  snapshot: string,
  file: HubFile,
): (options: ResolveOptions, onBytes: (bytes: number) => void) => Promise<void> {
  return async ({ signal, patience = 500 }, onBytes) => {
    const pointer = join(snapshot, file.path)
    if ((await sizeOf(pointer)) === file.size) return
    const blob = join(folder, 'blobs', file.etag)
    if ((await sizeOf(blob)) !== file.size) {
      const path = file.path.split('/').map(encodeURIComponent).join('/')
      const url = `${settings.endpoint}/${name.repo}/resolve/${name.revision}/${path}`
      const lock = join(settings.cache, '.locks', basename(folder), `${file.etag}.gptvq`)
      await fetchBlob({ settings, name, file, url, blob, lock, onBytes, signal, patience })
    }
    await link(blob, pointer)
  }
}

/** A relative link, as other tools make it; put in place by a rename, so that two fetches do not disturb each other. */
async function link(blob: string, pointer: string): Promise<void> {
  const temporary = `${pointer}.${randomBytes(6).toString('hex')}.link`
  await inCache(pointer, async () => {
    await mkdir(dirname(pointer), { recursive: true })
    await symlink(relative(dirname(pointer), blob), temporary)
    await rename(temporary, pointer)
  })
}

async function writeReference(path: string, commit: string): Promise<void> {
  await inCache(path, async () => {
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, commit)
  })
}
