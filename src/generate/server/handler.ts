import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Generator } from '../open-generator.js'
import { type Guard, isLoopback, keyGuard, loopbackGuard } from './access.js'
import type { AnsweredRequest } from './answered-request.js'
import { ApiError, asApiError, badField, errorBody } from './api-error.js'
import { complete, sendJson, type TokenCounts } from './complete.js'
import { createMetrics } from './metrics.js'
import { parseChatRequest, parseTextRequest } from './parse-request.js'
import { readJsonBody } from './read-body.js'

/** What a handler answers from, and its limits. */
export interface HandlerOptions {
  readonly generator: Generator
  readonly model: string
  readonly host: string
  readonly apiKey: string | undefined
  readonly queue: number
  readonly bodyBytes: number
  readonly seconds: number
  readonly onRequest: ((request: AnsweredRequest) => void) | undefined
}

/** Answers requests. */
export interface Handler {
  handle(request: IncomingMessage, response: ServerResponse): void
  /** Refuses further requests for answers. */
  drain(): void
  /** Stops the answers under way. */
  stopAll(): void
  /** Resolves when no request is being answered. */
  idle(): Promise<void>
}

/** Status in the log for clients that went away; no client gets it. */
const CLIENT_GONE = 499

type Route = (request: IncomingMessage, response: ServerResponse, task: Task) => Promise<void> | void

/** A request being answered. */
interface Task {
  readonly controller: AbortController
  readonly counts: TokenCounts
}

/** A handler of all routes. */
export function createHandler(options: HandlerOptions): Handler {
  const { generator, model, apiKey, queue, bodyBytes, seconds, onRequest } = options
  const metrics = createMetrics()
  const tasks = new Set<Task>()
  const waiters: (() => void)[] = []
  let pending = 0
  let draining = false
  const guard: Guard =
    apiKey !== undefined ? keyGuard(apiKey) : isLoopback(options.host) ? loopbackGuard : () => {}

  const completion =
    (parse: typeof parseChatRequest): Route =>
    async (request, response, { controller, counts }) => {
      const body = await readJsonBody(request, bodyBytes)
      if (draining) throw new ApiError(503, 'the server is about to stop', { code: 'stopping' })
      const asked = parse(body)
      const answers = asked.count * asked.prompts.length
      requirePlace(answers, asked.count > 1 ? 'n' : 'prompt', pending, generator.sequences, queue)
      pending += answers
      const timeUp = new ApiError(504, `the answer took longer than ${seconds} seconds`, { code: 'timeout' })
      const timer = setTimeout(() => controller.abort(timeUp), 1000 * seconds)
      try {
        await complete(generator, model, asked, response, controller.signal, counts)
      } finally {
        clearTimeout(timer)
        pending -= answers
      }
    }
  const card = { id: model, object: 'model', created: Math.floor(Date.now() / 1000), owned_by: 'gptvq' }
  const routes: Record<string, Route> = {
    'GET /health': (_, response) =>
      sendJson(response, draining ? 503 : 200, { status: draining ? 'stopping' : 'ok' }),
    'GET /metrics': (_, response) => {
      response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' })
      response.end(metrics.text(generator.load(), tasks.size))
    },
    'GET /v1/models': (_, response) => sendJson(response, 200, { object: 'list', data: [card] }),
    [`GET /v1/models/${model}`]: (_, response) => sendJson(response, 200, card),
    'POST /v1/completions': completion(parseTextRequest),
    'POST /v1/chat/completions': completion(parseChatRequest),
  }

  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const begun = performance.now()
    const path = (request.url ?? '/').split('?')[0]
    const place = decoded(path)
    const method = request.method ?? 'GET'
    const task: Task = { controller: new AbortController(), counts: { promptTokens: 0, completionTokens: 0 } }
    tasks.add(task)
    const onGone = () => {
      if (!response.writableFinished) task.controller.abort()
    }
    response.on('close', onGone)
    response.on('error', onGone)
    const known = Object.hasOwn(routes, `${method} ${place}`)
    let failed: ApiError | undefined
    let error: unknown
    try {
      if (path !== '/health') guard(request)
      await routeOf(routes, method, place)(request, response, task)
    } catch (cause) {
      const { reason } = task.controller.signal
      failed = asApiError(reason instanceof ApiError ? reason : cause)
      if (failed.status >= 500) error = cause
      refuse(request, response, failed)
    }
    await sent(response)
    tasks.delete(task)
    const gone = task.controller.signal.aborted && !(task.controller.signal.reason instanceof ApiError)
    const status = gone ? CLIENT_GONE : (failed?.status ?? response.statusCode)
    metrics.answered(known ? encodeURI(place) : 'other', status)
    metrics.counted(task.counts.promptTokens, task.counts.completionTokens)
    const took = (performance.now() - begun) / 1000
    onRequest?.({
      method,
      path,
      status,
      seconds: took,
      ...task.counts,
      ...(!gone && error !== undefined && { error }),
    })
    if (tasks.size === 0) for (const wake of waiters.splice(0)) wake()
  }

  return {
    handle: (request, response) => void answer(request, response),
    drain() {
      draining = true
    },
    stopAll() {
      const stopped = new ApiError(503, 'the server stops', { code: 'stopping' })
      for (const { controller } of tasks) controller.abort(stopped)
    },
    async idle() {
      while (tasks.size > 0) await new Promise<void>((wake) => waiters.push(wake))
    },
  }
}

/**
 * Answers, not requests, are what is computed and waits.
 *
 * @param field asks for that many
 * @param pending answers to requests under way
 * @throws ApiError where there is no place for so many more
 */
function requirePlace(
  answers: number,
  field: string,
  pending: number,
  sequences: number,
  queue: number,
): void {
  const most = sequences + queue
  if (answers > most) {
    throw badField(
      field,
      `asks for ${answers} answers; expected ${most} at most: ${sequences} are computed at a time, and ${queue} may wait`,
    )
  }
  if (pending + answers <= most) return
  throw new ApiError(
    429,
    `${pending} answers belong to requests under way, of ${most} at most; try again later`,
    { code: 'queue_full' },
  )
}

/** Clients may escape any character of a path, or send it as it is. */
function decoded(path: string): string {
  try {
    return decodeURIComponent(path)
  } catch {
    return path
  }
}

function routeOf(routes: Readonly<Record<string, Route>>, method: string, path: string): Route {
  const name = `${method} ${path}`
  if (Object.hasOwn(routes, name)) return routes[name]
  const other = ['GET', 'POST'].find((each) => Object.hasOwn(routes, `${each} ${path}`))
  if (other !== undefined) throw new ApiError(405, `${path} takes ${other}, got ${method}`)
  throw new ApiError(404, `there is no ${path}; there are ${Object.keys(routes).join(', ')}`, {
    code: 'unknown_url',
  })
}

/** Milliseconds for a client to read the end of its response. */
const PATIENCE = 30_000

/** Resolves when a response was handed to the system, or its client is gone. */
async function sent(response: ServerResponse): Promise<void> {
  if (response.writableFinished || response.destroyed) return
  await new Promise<void>((done) => {
    const timer = setTimeout(() => response.destroy(), PATIENCE)
    response.once('close', () => {
      clearTimeout(timer)
      done()
    })
    response.once('finish', () => {
      clearTimeout(timer)
      done()
    })
  })
}

/** Sends an error, unless a response has begun. */
function refuse(request: IncomingMessage, response: ServerResponse, error: ApiError): void {
  if (response.headersSent || response.destroyed) return
  const headers: Record<string, string> = {}
  if (error.status === 429) headers['retry-after'] = '1'
  if (error.status === 401) headers['www-authenticate'] = 'Bearer'
  // what is left of a body that was not read would be taken for the next request
  if (!request.complete) headers.connection = 'close'
  sendJson(response, error.status, errorBody(error), headers)
}
