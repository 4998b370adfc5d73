import { AbortedError, CheckpointError, GptvqError } from '../common/errors.js'
import type { HubName, HubSettings } from './hub-settings.js'

/** What of a failed answer tells the reason. */
export interface HubFailure {
  readonly status: number
  /** `X-Error-Code`, e.g. `'GatedRepo'`. */
  readonly code?: string | null
}

/** The error for an answer of the hub that is no success. */
export function statusError(
  { status, code }: HubFailure,
  { repo, revision }: HubName,
  settings: HubSettings,
): CheckpointError {
  const where = `${settings.endpoint}/${repo}`
  const token = settings.token === undefined ? 'set HF_TOKEN to a token' : 'the token in HF_TOKEN must be one'
  const say = (what: string) => new CheckpointError(`${repo}@${revision}: ${what}`)
  if (code === 'GatedRepo') {
    return say(
      `is gated: its owner asks for consent first. Give it on ${where}, and ${token} of an account that did`,
    )
  }
  if (code === 'RevisionNotFound') {
    return say(`there is no such revision on ${where}; give a branch, tag or commit that it has`)
  }
  if (status === 401 || status === 403) {
    return say(
      `the hub refuses access (${status}): it is private, or there is no such model. Check the name; if it is private, ${token} that may read it`,
    )
  }
  if (status === 404) {
    return say(`there is no such model on ${settings.endpoint} (404). Check the name, or give a folder`)
  }
  if (status === 429) return say('the hub asks for fewer requests (429). Try again later')
  return say(`the hub answers with an error (${status}). Try again later`)
}

/** The error for a request that got no answer, or lost it halfway; errors of this package and stops stay as they are. */
export function networkError(
  error: unknown,
  { repo, revision }: HubName,
  { endpoint }: HubSettings,
  signal: AbortSignal | undefined,
): unknown {
  if (signal?.aborted) return new AbortedError(undefined, signal.reason)
  if (error instanceof GptvqError) return error
  return new CheckpointError(
    `${repo}@${revision}: there is no folder of this name, so it is taken for a model on the hub, and ${endpoint} cannot be reached (${reasonOf(error)}). ` +
      'Check the connection; what was fetched before is used with HF_HUB_OFFLINE=1',
    { cause: error },
  )
}

/** What lies behind a `fetch failed`. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return (error.cause instanceof Error && error.cause.message) || error.message
}
