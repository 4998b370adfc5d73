import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { lastPart, type ModelPlace } from '../../checkpoint/model-source.js'
import { type OptionNames, refuseUnknown, requireWhole } from '../../common/check-option.js'
import { OptionError, UnsupportedError } from '../../common/errors.js'
import { modelName } from '../../hub/snapshot-name.js'
import { generatorOptionNames, type OpenGeneratorOptions, openGenerator } from '../open-generator.js'
import type { AnsweredRequest } from './answered-request.js'
import { createHandler } from './handler.js'

/** Which model to serve, where, and within which limits. */
export interface StartServerOptions extends OpenGeneratorOptions {
  /** Address to listen at; default `'127.0.0.1'`: only this machine reaches it. */
  readonly host?: string
  /** Port to listen at, 0 for any that is free; default 8080. */
  readonly port?: number
  /** What clients have to send as `Authorization: Bearer KEY`; default: nothing. */
  readonly apiKey?: string
  /** Answers that may wait while others are computed; requests for more get the status 429. Default 64. */
  readonly queue?: number
  /** Bytes of a request's body at most; default 4 MiB. */
  readonly bodyBytes?: number
  /** Seconds that an answer may take, the time in the queue included; default 600. */
  readonly seconds?: number
  /** Is told of each request once it was answered. */
  readonly onRequest?: (request: AnsweredRequest) => void
}

const optionNames: OptionNames<StartServerOptions> = {
  ...generatorOptionNames,
  host: true,
  port: true,
  apiKey: true,
  queue: true,
  bodyBytes: true,
  seconds: true,
  onRequest: true,
}

/** A server that runs. */
export interface RunningServer {
  /** Where it listens, e.g. `'http://127.0.0.1:8080'`; clients of OpenAI's interface take it with `/v1` behind it. */
  readonly url: string
  /** The name that clients call the model by: that of its folder, or on the hub, without its owner. */
  readonly model: string
  /**
   * Takes no further requests, waits for those under way, and frees the memory. Can be called again.
   *
   * @param options.now stops the answers under way instead
   */
  close(options?: { readonly now?: boolean }): Promise<void>
}

/** Connections beside those whose requests are answered or wait: idle ones, and those that ask for other things. */
const SPARE_CONNECTIONS = 256

const defaults = { host: '127.0.0.1', port: 8080, queue: 64, bodyBytes: 2 ** 22, seconds: 600 }

/**
 * Serves a model by OpenAI's HTTP interface: `/v1/models`, `/v1/completions` and `/v1/chat/completions`, beside `/health`
 * and `/metrics`. Answers are computed together, in the order they were asked for in.
 *
 * @throws OptionError, CheckpointError, UnsupportedError as {@link openGenerator}; UnsupportedError when it cannot listen
 * there, AbortedError when `signal` fires while the model is loaded
 */
export async function startServer(options: StartServerOptions): Promise<RunningServer> {
  refuseUnknown(options, optionNames)
  const { host, port, apiKey, queue, bodyBytes, seconds, onRequest, ...opened } = options
  const limits = {
    queue: queue ?? defaults.queue,
    bodyBytes: bodyBytes ?? defaults.bodyBytes,
    seconds: seconds ?? defaults.seconds,
  }
  const address = { host: host ?? defaults.host, port: port ?? defaults.port }
  requireWhole('port', address.port, 0, 65535)
  requireWhole('queue', limits.queue, 0)
  requireWhole('bodyBytes', limits.bodyBytes, 1)
  requireWhole('seconds', limits.seconds, 1, 86_400)
  if (apiKey === '') throw new OptionError('apiKey', 'expected a key that is not empty')
  const generator = await openGenerator(opened)
  const model = nameOf(options.model)
  const handler = createHandler({ generator, model, ...address, ...limits, apiKey, onRequest })
  const server = createServer({ headersTimeout: 15_000, requestTimeout: 60_000 }, handler.handle)
  server.maxConnections = generator.sequences + limits.queue + SPARE_CONNECTIONS
  let closing: Promise<void> | undefined
  try {
    await listen(server, address)
  } catch (error) {
    await generator.close()
    throw error
  }
  return {
    url: urlOf(server, address.host),
    model,
    close({ now = false } = {}) {
      if (now) handler.stopAll()
      closing ??= (async () => {
        const ended = new Promise((done) => server.close(done))
        handler.drain()
        server.closeIdleConnections()
        await handler.idle()
        server.closeIdleConnections()
        server.closeAllConnections()
        await ended
        await generator.close()
      })()
      return closing
    },
  }
}

function listen(server: Server, { host, port }: { host: string; port: number }): Promise<void> {
  return new Promise((done, fail) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const reason = error.code === 'EADDRINUSE' ? 'another program listens there' : error.message
      fail(
        new UnsupportedError(
          `the server cannot listen at ${host}, port ${port}: ${reason}. Choose another host or port`,
          { cause: error },
        ),
      )
    })
    server.listen(port, host, () => done())
  })
}

function urlOf(server: Server, host: string): string {
  const { port } = server.address() as AddressInfo
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`
}

function nameOf(model: ModelPlace): string {
  return typeof model === 'string' ? modelName(model) : lastPart(model.place)
}
