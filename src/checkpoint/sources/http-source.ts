import { type OptionNames, refuseUnknown, requirePath } from '../../common/check-option.js'
import { CheckpointError } from '../../common/errors.js'
import type { ByteSource } from '../byte-source.js'
import { CONFIG_FILE, SINGLE_WEIGHTS_FILE, WEIGHTS_INDEX_FILE } from '../folder-names.js'
import { isObject } from '../json-file.js'
import { lastPart, type ModelSource } from '../model-source.js'

/** Options of {@link httpSource}. */
export interface HttpSourceOptions {
  /**
   * Names of the model's files. Default: those that a model folder usually has are asked for one by one, of which a
   * browser's console lists each that is not there.
   */
  readonly files?: readonly string[]
  /** Headers of every request, e.g. `Authorization`. */
  readonly headers?: Readonly<Record<string, string>>
  /** Stops all reading. */
  readonly signal?: AbortSignal
}

/** Names of {@link HttpSourceOptions}. */
export const httpOptionNames: OptionNames<HttpSourceOptions> = { files: true, headers: true, signal: true }

/** Files that models usually have, beside their weights. */
export const USUAL_FILES: readonly string[] = [
  CONFIG_FILE,
  WEIGHTS_INDEX_FILE,
  'tokenizer.json',
  'tokenizer_config.json',
  'generation_config.json',
  'chat_template.jinja',
]

/** A URL, and how it is asked. */
export interface Remote {
  readonly base: string
  readonly init: RequestInit
}

/**
 * The files of a model behind a URL, read by HTTP ranges: of the weights only what is needed, when it is needed.
 *
 * @param url of the folder, e.g. `'https://huggingface.co/org/name/resolve/main/'`; or of a GGUF file
 * @throws CheckpointError, when it is listed or read, for a server that refuses or does not answer with ranges
 */
export function httpSource(url: string, options: HttpSourceOptions = {}): ModelSource {
  requirePath('url', url)
  refuseUnknown(options, httpOptionNames)
  const remote = remoteOf(url, options)
  const main = /\.gguf$/i.test(new URL(remote.base).pathname)
    ? lastPart(new URL(remote.base).pathname)
    : undefined
  const sizes = new Map<string, Promise<number | undefined>>()
  const urlOf = (name: string) => (name === main ? remote.base : fileUrl(remote, name))
  const sizeOf = (name: string) => {
    const known = sizes.get(name) ?? askSize(remote, urlOf(name))
    sizes.set(name, known)
    return known
  }
  const list = once(async () => {
    if (main !== undefined) return [main]
    if (options.files !== undefined) return options.files.slice().sort()
    return findFiles(
      async (name) => (await sizeOf(name)) !== undefined,
      (name) => readWhole(remote, urlOf(name)),
    )
  })
  return {
    place: main === undefined ? remote.base.replace(/\/$/, '') : remote.base,
    ...(main !== undefined && { main }),
    list,
    size: sizeOf,
    async open(name) {
      const size = await sizeOf(name)
      if (size === undefined) throw missing(urlOf(name))
      return rangeBytes(remote, urlOf(name), size)
    },
  }
}

/** The base of a model's files, with a slash at its end unless it is a single file. */
export function remoteOf(url: string, { headers, signal }: HttpSourceOptions): Remote {
  const single = /\.gguf$/i.test(url)
  let base: string
  try {
    base = new URL(single || url.endsWith('/') ? url : `${url}/`, baseOfPage()).href
  } catch (cause) {
    throw new CheckpointError(`${url}: is no URL; expected one like https://example.org/models/name/`, {
      cause,
    })
  }
  return { base, init: { ...(headers && { headers: { ...headers } }), ...(signal && { signal }) } }
}

function baseOfPage(): string | undefined {
  return (globalThis as { location?: { href: string } }).location?.href
}

/** The URL of a file in the folder. */
export function fileUrl({ base }: Remote, name: string): string {
  return new URL(encodeURIComponent(name), base).href
}

/** The usual files that are there, and the weights that the index names. */
export async function findFiles(
  isThere: (name: string) => Promise<boolean>,
  read: (name: string) => Promise<Uint8Array>,
): Promise<readonly string[]> {
  const found: string[] = []
  for (const name of USUAL_FILES) if (await isThere(name)) found.push(name)
  if (!found.includes(WEIGHTS_INDEX_FILE)) {
    return (await isThere(SINGLE_WEIGHTS_FILE)) ? [...found, SINGLE_WEIGHTS_FILE].sort() : found.sort()
  }
  return [...found, ...shardsOf(new TextDecoder().decode(await read(WEIGHTS_INDEX_FILE)))].sort()
}

/** What is wrong with the index is said by what opens the model. */
function shardsOf(indexText: string): string[] {
  try {
    const { weight_map: map } = JSON.parse(indexText) as { weight_map?: unknown }
    return isObject(map) ? [...new Set(Object.values(map).map(String))] : []
  } catch {
    return []
  }
}

function rangeBytes(remote: Remote, url: string, size: number): ByteSource {
  return {
    path: url,
    size,
    async readAt(position, length) {
      if (length === 0) return new Uint8Array(0)
      const { response, total } = await askRange(remote, url, position, position + length - 1)
      if (total !== size) {
        throw new CheckpointError(
          `${url}: has ${total} bytes now, ${size} when it was opened. Open the model again`,
        )
      }
      const bytes = new Uint8Array(await response.arrayBuffer().catch((cause) => refuse(url, cause)))
      if (bytes.length === length) return bytes
      throw new CheckpointError(
        `${url}: gave ${bytes.length} bytes from byte ${position} on, expected ${length}. Try again`,
      )
    },
  }
}

/** Bytes of the file, undefined when there is none. */
async function askSize(remote: Remote, url: string): Promise<number | undefined> {
  const response = await request(url, { ...remote.init, method: 'HEAD' })
  if (response.status === 404) return undefined
  requireOk(response, url)
  // the length of a HEAD may be that of a compressed body; a range has the true one
  const { response: first, total } = await askRange(remote, url, 0, 0)
  await first.arrayBuffer()
  return total
}

async function askRange(
  { init }: Remote,
  url: string,
  first: number,
  last: number,
): Promise<{ readonly response: Response; readonly total: number }> {
  const headers = { ...(init.headers as Record<string, string>), Range: `bytes=${first}-${last}` }
  const response = await request(url, { ...init, headers })
  requireOk(response, url)
  const total = Number(/\/(\d+)$/.exec(response.headers.get('Content-Range') ?? '')?.[1] ?? Number.NaN)
  if (response.status === 206 && Number.isSafeInteger(total)) return { response, total }
  await response.body?.cancel()
  throw new CheckpointError(
    `${url}: the server does not answer with ranges of bytes (status ${response.status} where 206 and Content-Range were ` +
      'expected). Use a server that does, or cachedSource, which fetches whole files',
  )
}

/** A whole file, for small ones. */
export async function readWhole({ init }: Remote, url: string): Promise<Uint8Array> {
  const response = await request(url, init)
  requireOk(response, url)
  return new Uint8Array(await response.arrayBuffer().catch((cause) => refuse(url, cause)))
}

/** A response, whatever its status. @throws CheckpointError when there is none */
export async function request(url: string, init: RequestInit): Promise<Response> {
  return fetch(url, init).catch((cause) => refuse(url, cause))
}

function refuse(url: string, cause: unknown): never {
  if (cause instanceof Error && cause.name === 'AbortError') throw cause
  const reason = cause instanceof Error ? cause.message : String(cause)
  throw new CheckpointError(
    `${url}: cannot be fetched (${reason}). Check the connection, and that the server lets this page read it (CORS)`,
    { cause },
  )
}

/** @throws CheckpointError for a status that is no success */
export function requireOk({ ok, status, statusText }: Response, url: string): void {
  if (ok) return
  throw new CheckpointError(`${url}: the server answers with status ${status} ${statusText}`.trim())
}

function missing(url: string): CheckpointError {
  return new CheckpointError(`${url}: there is no such file on the server`)
}

function once<T>(work: () => Promise<T>): () => Promise<T> {
  let done: Promise<T> | undefined
  return () => {
    done ??= work()
    return done
  }
}
