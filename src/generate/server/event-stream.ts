import type { ServerResponse } from 'node:http'

/** Events sent one by one; each waits until the client has room for more. */
export interface EventStream {
  send(data: object | string): Promise<void>
  end(): void
}

/** Begins a stream of server-sent events. @param signal ends the waiting for a client that reads no further */
export function openEventStream(response: ServerResponse, signal: AbortSignal): EventStream {
  response.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache',
    'x-accel-buffering': 'no',
  })
  // several answers wait for the same client, with one set of listeners
  let waiting: Promise<void> | undefined
  return {
    async send(data) {
      const text = typeof data === 'string' ? data : JSON.stringify(data)
      if (!response.writable || response.write(`data: ${text}\n\n`)) return
      waiting ??= drained(response, signal).finally(() => {
        waiting = undefined
      })
      await waiting
    },
    end: () => response.end(),
  }
}

function drained(response: ServerResponse, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => {
    const done = () => {
      response.removeListener('drain', done)
      response.removeListener('close', done)
      signal.removeEventListener('abort', done)
      resolve()
    }
    response.once('drain', done)
    response.once('close', done)
    signal.addEventListener('abort', done)
  })
}
