import { openAsBlob } from 'node:fs'
import { createRepo, HubApiError, uploadFilesWithProgress } from '@huggingface/hub'
import { AbortedError, CheckpointError, GptvqError } from '../common/errors.js'
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
}

/** What the hub's client tells on the way. */
interface UploadOptions {
  readonly onProgress?: ((progress: { readonly step: string; readonly done: number }) => void) | undefined
  readonly signal?: AbortSignal | undefined
}

/**
 * Makes the model on the hub, unless it is there, and adds files to it in one commit: all of them or none.
 *
 * @throws CheckpointError without a token, offline, when the hub refuses or cannot be reached; AbortedError
 */
export async function uploadFiles(
  { name, files, isPrivate, message }: Upload,
  settings: HubSettings,
  { onProgress, signal }: UploadOptions = {},
): Promise<Uploaded> {
  const accessToken = requireToken(name, settings)
  const common = { repo: name.repo, accessToken, hubUrl: settings.endpoint }
  try {
    onProgress?.({ step: `making ${name.repo}`, done: 0 })
    await createRepo({ ...common, visibility: isPrivate ? 'private' : 'public' }).catch(unlessThere)
    const contents = await Promise.all(
      Array.from(files, async ([path, file]) => ({
        path,
        content: 'text' in file ? new Blob([file.text]) : await openAsBlob(file.path),
      })),
    )
    const shares = new Map<string, number>()
    const work = uploadFilesWithProgress({
      ...common,
      files: contents,
      branch: name.revision,
      commitTitle: message,
      ...(signal && { abortSignal: signal }),
    })
    for (;;) {
      const { done, value } = await work.next()
      if (done) return { url: `${settings.endpoint}/${name.repo}`, commit: value!.commit.oid }
      if (value.event !== 'fileProgress') continue
      // hashing reads a file once, uploading once more
      shares.set(value.path, (value.state === 'uploading' ? 0.5 : 0) + value.progress / 2)
      const sum = [...shares.values()].reduce((total, share) => total + share, 0)
      onProgress?.({ step: `uploading ${value.path}`, done: Math.min(1, sum / files.size) })
    }
  } catch (error) {
    throw uploadError(error, name, settings, signal)
  }
}

function requireToken({ repo }: HubName, { token, offline }: HubSettings): string {
  if (offline) {
    throw new CheckpointError(`${repo}: HF_HUB_OFFLINE is set, so nothing is uploaded; unset it`)
  }
  if (token !== undefined) return token
  throw new CheckpointError(
    `${repo}: to upload, set HF_TOKEN to a token that may write (made on https://huggingface.co/settings/tokens)`,
  )
}

/** A model that is there already is what files are added to. */
function unlessThere(error: unknown): void {
  if (!(error instanceof HubApiError) || error.statusCode !== 409) throw error
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
    return say(`${endpoint} cannot be reached (${String(error)}). Check the connection; nothing was added`)
  }
  const { statusCode: status, message } = error
  if (status === 401 || status === 403) {
    return say(`the hub refuses (${status}): the token in HF_TOKEN must be one that may write to ${repo}`)
  }
  if (status === 404) {
    return say(`the hub has no such place (404). Check the name; a branch other than main must be there`)
  }
  return say(`the hub answers with an error (${status}: ${message}). Try again later; nothing was added`)
}
