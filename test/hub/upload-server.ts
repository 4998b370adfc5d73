import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A hub that takes uploads: the part of its HTTP that makes a model and adds one commit to it. */
export interface UploadServer {
  readonly url: string
  /** Files by name, once a commit has added them. */
  readonly files: Map<string, Uint8Array>
  /** `METHOD path` of each request. */
  readonly log: string[]
  /** What was asked for when the model was made. */
  readonly made: Record<string, unknown>[]
  /** Messages of the commits. */
  readonly messages: string[]
  /** The status that a request is answered with in place of what it asks for; it comes for the `count`-th time. */
  refuse: (path: string, count: number) => number | undefined
  close(): Promise<void>
}

/** Files of so many bytes and more go by LFS. */
const LARGE = 1000
export const uploadToken = 'hf_write'
const commitId = 'c0ffee'.padEnd(40, '0')

/** Starts it. @param isThere whether the model exists already @param token what may write */
export async function startUploadHub(isThere = false, token = uploadToken): Promise<UploadServer> {
  const store = new Map<string, Uint8Array>()
  const hub: UploadServer = {
    url: '',
    files: new Map(),
    log: [],
    made: [],
    messages: [],
    refuse: () => undefined,
    close: async () => {},
  }
  const server = createServer((request, response) => {
    answer(hub, store, { isThere, token }, request, response).catch((error) => {
      // the client hangs up on requests beside one that was refused
      if (request.errored === null) throw error
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const close = () => {
    server.closeAllConnections()
    return new Promise<void>((resolve) => server.close(() => resolve()))
  }
  return Object.assign(hub, { url, close })
}

async function answer(
  hub: UploadServer,
  store: Map<string, Uint8Array>,
  { isThere, token }: { readonly isThere: boolean; readonly token: string },
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const path = decodeURIComponent((request.url ?? '').split('?')[0])
  hub.log.push(`${request.method} ${path}`)
  const body = await bodyOf(request)
  const json = (value: unknown, status = 200) => {
    response.writeHead(status, { 'Content-Type': 'application/json' })
    response.end(JSON.stringify(value))
  }
  const line = `${request.method} ${path}`
  const refused = hub.refuse(path, hub.log.filter((one) => one === line).length)
  if (refused !== undefined) json({ error: 'trouble' }, refused)
  else if (path.startsWith('/store/')) {
    store.set(path.slice('/store/'.length), body)
    response.end()
  } else if (request.headers.authorization !== `Bearer ${token}`) json({ error: 'Unauthorized' }, 401)
  else if (path === '/api/repos/create') {
    hub.made.push(JSON.parse(body.toString()))
    json(isThere ? { error: 'exists' } : { url: `${hub.url}/org/tiny`, id: '1' }, isThere ? 409 : 200)
  } else if (path === '/api/models/org/tiny') json({}, isThere ? 200 : 404)
  else if (path.startsWith('/api/models/org/tiny/tree/')) {
    json(Array.from(hub.files, ([name, { length }]) => ({ type: 'file', path: name, size: length })))
  } else if (path.startsWith('/api/models/org/tiny/preupload/')) {
    const { files }: { files: { path: string; size: number }[] } = JSON.parse(body.toString())
    json({
      files: files.map((file) => ({ path: file.path, uploadMode: file.size < LARGE ? 'regular' : 'lfs' })),
    })
  } else if (path === '/org/tiny.git/info/lfs/objects/batch') {
    const { objects }: { objects: { oid: string; size: number }[] } = JSON.parse(body.toString())
    const upload = (oid: string) => ({ href: `${hub.url}/store/${oid}`, header: {} })
    const described = objects.map(({ oid, size }) => ({ oid, size, actions: { upload: upload(oid) } }))
    json({ transfer: 'basic', objects: described })
  } else if (path.startsWith('/api/models/org/tiny/commit/')) {
    addCommit(hub, store, body.toString())
    json({ success: true, commitOid: commitId, commitUrl: `${hub.url}/org/tiny/commit/${commitId}` })
  } else json({ error: 'none' }, 404)
}

function addCommit(hub: UploadServer, store: ReadonlyMap<string, Uint8Array>, lines: string): void {
  for (const line of lines.split('\n').filter((text) => text !== '')) {
    const { key, value } = JSON.parse(line)
    if (key === 'header') hub.messages.push(value.summary)
    if (key === 'deletedFile' && !hub.files.delete(value.path)) throw new Error(`${value.path}: is not there`)
    if (key === 'file') hub.files.set(value.path, Buffer.from(value.content, value.encoding))
    if (key !== 'lfsFile') continue
    const bytes = store.get(value.oid)
    if (bytes === undefined || createHash('sha256').update(bytes).digest('hex') !== value.oid) {
      throw new Error(`${value.path}: its bytes were not sent`)
    }
    hub.files.set(value.path, bytes)
  }
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part)
  return Buffer.concat(parts)
}
