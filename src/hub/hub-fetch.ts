import { setTimeout as sleep } from 'node:timers/promises'
import { throwIfAborted } from '../common/errors.js'
import type { HubSettings } from './hub-settings.js'

/** Tries that bring nothing before a failure is final. */
export const TRIES = 5

/** The hub counts requests over five minutes; who is asked to wait for longer is told so. */
export const LONGEST_WAIT = 300_000

/** How a request is tried again. */
export interface RetryOptions {
  readonly signal?: AbortSignal | undefined
  /** Milliseconds before the second try, default 500; each further one waits twice as long. */
  readonly patience?: number | undefined
}

/**
 * What the hub's package is given as a token: it insists on the look of those of the hub, which other endpoints need not
 * have. {@link hubFetch} puts the token in its place.
 */
export const STAND_IN_TOKEN = 'hf_standing_in'

/**
 * `fetch` with the token, for the hub's package. What may pass (429, 5xx, a lost connection) is tried again; but a first
 * request that gets no answer fails at once, since a slip in a path must not wait, and a commit is sent again only where
 * the hub says that it did not look at it (429): behind other errors it may have been made.
 */
export function hubFetch(settings: HubSettings, { signal, patience }: RetryOptions): typeof fetch {
  let isReached = false
  return async (input, init) => {
    const stop = init?.signal ?? signal
    const request = { ...init, headers: withToken(init?.headers, settings), ...(stop && { signal: stop }) }
    const maySend = isCommit(String(input), init?.method) ? isUntouched : mayPass
    for (let attempt = 1; ; attempt++) {
      throwIfAborted(signal)
      let asked = 0
      try {
        const response = await fetch(input, request)
        isReached = true
        asked = retryAfter(response)
        if (attempt === TRIES || !maySend(response.status) || isTooLong(asked)) return response
        await response.body?.cancel()
      } catch (error) {
        if (attempt === TRIES || !isReached || maySend === isUntouched || stop?.aborted) throw error
      }
      await waitFor(attempt, asked, { signal: stop, patience })
    }
  }
}

function withToken(given: RequestInit['headers'], { token }: HubSettings): Headers {
  const headers = new Headers(given)
  if (headers.get('Authorization') !== `Bearer ${STAND_IN_TOKEN}`) return headers
  if (token === undefined) headers.delete('Authorization')
  else headers.set('Authorization', `Bearer ${token}`)
  return headers
}

function isCommit(url: string, method: string | undefined): boolean {
  return method === 'POST' && /\/commit\/[^/?]+(\?|$)/.test(url)
}

/** Whether another try may be answered otherwise. */
export function mayPass(status: number): boolean {
  return status === 429 || status >= 500
}

/** Whether the answer says that nothing was done; 503 may come from a gateway that has handed the request on. */
function isUntouched(status: number): boolean {
  return status === 429
}

/** Milliseconds for which an answer asks to wait: `Retry-After`, in seconds or as a date. */
export function retryAfter({ headers }: Response): number {
  const text = headers.get('Retry-After')
  if (text === null) return 0
  const milliseconds = /^\s*\d+\s*$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now()
  return Math.max(0, milliseconds || 0)
}

/** Whether so long a wait is too long to be waited for. */
export function isTooLong(milliseconds: number): boolean {
  return milliseconds > LONGEST_WAIT
}

/** Waits after the `attempt`-th try, at least as long as was asked for. @throws AbortedError */
export async function waitFor(
  attempt: number,
  asked: number,
  { signal, patience = 500 }: RetryOptions,
): Promise<void> {
  const wait = Math.max(asked, patience * 2 ** (attempt - 1))
  await sleep(wait, undefined, signal && { signal }).catch(() => {})
  throwIfAborted(signal)
}
