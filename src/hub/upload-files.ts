import { openAsBlob } from 'node:fs'
import {
  type CommitOperation,
  commitIter,
  createRepo,
  HubApiError,
  listFiles,
  repoExists,
} from '@huggingface/hub'
import { isWeightsFile } from '../checkpoint/folder-names.js'
import { AbortedError, CheckpointError, GptvqError } from '../common/errors.js'
import { reasonOf } from './hub-errors.js'
import { hubFetch, type RetryOptions, STAND_IN_TOKEN } from './hub-fetch.js'
import type { HubName, HubSettings } from './hub-settings.js'

/** A file to be uploaded: where it lies, or what is in it. */
export type UploadedFile = { readonly path: string } | { readonly text: string }

/** What to upload, and where to. */
export interface Upload {
  readonly name: HubName
  /** By their names on the hub. */
  readonly files: ReadonlyMap<string, UploadedFile>
  /** Whether a model that is made for them is private. */
  readonly isPrivate: boolean
  /** Of the commit. */
  readonly message: string
}

/** Where files are now. */
export interface Uploaded {
  readonly url: string
  /** The commit that added them. */
  readonly commit: string
  /** Names of the weights that it removed, sorted. */
  readonly removed: readonly string[]
}

/** What the hub's client tells on the way. */
interface UploadOptions extends RetryOptions {
  readonly onProgress?: ((progress: { readonly step: string; readonly done: number }) => void) | undefined
}

/** What all requests to the hub have in common. */
interface Common {
  readonly repo: string
  readonly hubUrl: string
  readonly accessToken: string
  readonly fetch: typeof fetch
}

/**
 * Makes the model on the hub, unless it is there, and adds files to it in one commit: all of them or none. Where there are
 * weights among them, the commit removes those that were there under other names: an index of shards would have readers
 * take old weights for new ones.
 *
 * @throws CheckpointError without a token, offline, when the hub refuses or cannot be reached; AbortedError
 */
export async function uploadFiles(
  { name, files, isPrivate, message }: Upload,
  settings: HubSettings,
  { onProgress, signal, patience }: UploadOptions = {},
): Promise<Uploaded> {
  requireToken(name, settings)
  const common: Common = {
    repo: name.repo,
    hubUrl: settings.endpoint,
    accessToken: STAND_IN_TOKEN,
    fetch: hubFetch(settings, { signal, patience }),
  }
  try {
    onProgress?.({ step: `making ${name.repo}`, done: 0 })
    const isNew = await makeModel(common, isPrivate)
    const removed = isNew ? [] : await oldWeights(common, name.revision, files)
    const work = commitIter({
      ...common,
      operations: [
        ...(await additions(files)),
        ...removed.map((path): CommitOperation => ({ operation: 'delete', path })),
      ],
      branch: name.revision,
      title: message,
      ...(signal && { abortSignal: signal }),
    })
    const commit = await follow(work, files.size, onProgress)
    return { url: `${settings.endpoint}/${name.repo}`, commit, removed }
  } catch (error) {
    throw uploadError(error, name, settings, signal)
  }
}

/** @returns whether it was not there before */
async function makeModel(common: Common, isPrivate: boolean): Promise<boolean> {
  try {
    await createRepo({ ...common, visibility: isPrivate ? 'private' : 'public' })
    return true
  } catch (error) {
    const status = error instanceof HubApiError ? error.statusCode : undefined
    if (status === 409) return false
    // a token for one model alone may write to it and make none
    if (status === 403 && (await repoExists(common))) return false
    throw error
  }
}

async function oldWeights(
  common: Common,
  revision: string,
  files: ReadonlyMap<string, UploadedFile>,
): Promise<readonly string[]> {
  if (![...files.keys()].some(isWeightsFile)) return []
  const old: string[] = []
  try {
    for await (const { type, path } of listFiles({ ...common, revision: encodeURIComponent(revision) })) {
      if (type === 'file' && isWeightsFile(path) && !files.has(path)) old.push(path)
    }
  } catch (error) {
    // no such branch: what adds the files says so
    if (!(error instanceof HubApiError) || error.statusCode !== 404) throw error
  }
  return old.sort()
}

function additions(files: ReadonlyMap<string, UploadedFile>): Promise<readonly CommitOperation[]> {
  return Promise.all(
    Array.from(files, async ([path, file]) => ({
      operation: 'addOrUpdate' as const,
      path,
      content: 'text' in file ? new Blob([file.text]) : await openAsBlob(file.path),
    })),
  )
}

/** @returns the commit */
async function follow(
  work: ReturnType<typeof commitIter>,
  count: number,
  onProgress: UploadOptions['onProgress'],
): Promise<string> {
  const shares = new Map<string, number>()
  for (;;) {
    const { done, value } = await work.next()
    if (done) return value!.commit.oid
    if (value.event !== 'fileProgress') continue
    // hashing reads a file once, uploading once more
    shares.set(value.path, (value.state === 'uploading' ? 0.5 : 0) + value.progress / 2)
    const sum = [...shares.values()].reduce((total, share) => total + share, 0)
    onProgress?.({ step: `uploading ${value.path}`, done: Math.min(1, sum / count) })
  }
}

function requireToken({ repo }: HubName, { token, offline }: HubSettings): void {
  if (offline) {
    throw new CheckpointError(`${repo}: HF_HUB_OFFLINE is set, so nothing is uploaded; unset it`)
  }
  if (token !== undefined) return
  throw new CheckpointError(
    `${repo}: to upload, set HF_TOKEN to a token that may write (made on https://huggingface.co/settings/tokens)`,
  )
}

function uploadError(
  error: unknown,
  { repo, revision }: HubName,
  { endpoint }: HubSettings,
  signal: AbortSignal | undefined,
): unknown {
  if (signal?.aborted) return new AbortedError(undefined, signal.reason)
  if (error instanceof GptvqError) return error
  const say = (what: string) => new CheckpointError(`${repo}@${revision}: ${what}`, { cause: error })
  if (!(error instanceof HubApiError)) {
    return say(
      `${endpoint} cannot be reached (${reasonOf(error)}). Check the connection, and push again: what is there is not sent twice`,
    )
  }
  const { statusCode: status, message } = error
  if (status === 401 || status === 403) {
    return say(`the hub refuses (${status}): the token in HF_TOKEN must be one that may write to ${repo}`)
  }
  if (status === 404) {
    return say(`the hub has no such place (404). Check the name; a branch other than main must be there`)
  }
  return say(
    `the hub answers with an error (${status}: ${message}). Try again later: what is there is not sent twice`,
  )
}
