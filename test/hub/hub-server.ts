import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** What goes wrong with a request; `undefined`: nothing. */
export interface Trouble {
  /** An answer of this status, with these headers. */
  readonly status?: number
  readonly headers?: Record<string, string>
  /** The connection is cut after so many bytes. */
  readonly cutAfter?: number
  /** The content is another one of the same length. */
  readonly spoil?: boolean
}

/** A small hub: one model, `org/tiny`, at one commit. */
export interface HubServer {
  readonly url: string
  /** `METHOD path range authorization` of each request. */
  readonly log: string[]
  /** Is asked about each request by its path, without the query. */
  trouble: (path: string, count: number) => Trouble | undefined
  close(): Promise<void>
}

export const commit = '0123456789abcdef0123456789abcdef01234567'

/** Starts it. Files of more than 1000 bytes are large: the hub has their SHA-256, and sends to another address for them. */
export async function startHub(files: ReadonlyMap<string, Uint8Array>): Promise<HubServer> {
  const log: string[] = []
  const counts = new Map<string, number>()
  const hub: HubServer = { url: '', log, trouble: () => undefined, close: async () => {} }
  const server = createServer((request, response) => {
    const path = decodeURIComponent((request.url ?? '').split('?')[0])
    const count = (counts.get(path) ?? 0) + 1
    counts.set(path, count)
    log.push(`${path} ${request.headers.range ?? '-'} ${request.headers.authorization ?? '-'}`)
    answer(files, request, response, path, hub.trouble(path, count))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return Object.assign(hub, { url, close: () => closeServer(server) })
}

function closeServer(server: Server): Promise<void> {
  server.closeAllConnections()
  return new Promise((resolve) => server.close(() => resolve()))
}

function answer(
  files: ReadonlyMap<string, Uint8Array>,
  request: IncomingMessage,
  response: ServerResponse,
  path: string,
  trouble: Trouble | undefined,
): void {
  const json = (value: unknown) => {
    response.writeHead(200, { 'Content-Type': 'application/json' })
    response.end(JSON.stringify(value))
  }
  if (trouble?.status !== undefined) {
    response.writeHead(trouble.status, trouble.headers)
    response.end('trouble')
  } else if (/^\/api\/models\/org\/tiny\/revision\/[^/]+$/.test(path)) {
    json({
      _id: '1',
      id: 'org/tiny',
      modelId: 'org/tiny',
      sha: commit,
      private: false,
      downloads: 0,
      likes: 0,
    })
  } else if (path.startsWith(`/api/models/org/tiny/tree/${commit}`)) {
    json([...files].map(([name, bytes]) => describeFile(name, bytes)))
  } else sendFile(files, request, response, path, trouble)
}

function describeFile(path: string, bytes: Uint8Array): object {
  const oid = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')
  const file = { type: 'file', path, size: bytes.length, oid }
  if (bytes.length <= 1000) return file
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  return { ...file, oid: 'f'.repeat(40), lfs: { oid: sha256, size: bytes.length, pointerSize: 134 } }
}

function sendFile(
  files: ReadonlyMap<string, Uint8Array>,
  request: IncomingMessage,
  response: ServerResponse,
  path: string,
  trouble: Trouble | undefined,
): void {
  const [, place, name] = /^\/(org\/tiny\/resolve\/[^/]+|store)\/(.+)$/.exec(path) ?? []
  const bytes = name === undefined ? undefined : files.get(name)
  if (bytes === undefined) {
    response.writeHead(404, { 'X-Error-Code': 'EntryNotFound' })
    response.end()
    return
  }
  if (place !== 'store' && bytes.length > 1000) {
    response.writeHead(302, { Location: `/store/${name}` })
    response.end()
    return
  }
  const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
  const rest = Buffer.from(bytes.subarray(start))
  if (trouble?.spoil) rest[0] ^= 1
  const range = start > 0 ? { 'Content-Range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` } : {}
  response.writeHead(start > 0 ? 206 : 200, { 'Content-Length': rest.length, ...range })
  if (trouble?.cutAfter === undefined) response.end(rest)
  else response.write(rest.subarray(0, trouble.cutAfter), () => setTimeout(() => response.destroy(), 300))
}
