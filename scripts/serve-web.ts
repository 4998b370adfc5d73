import { open, stat } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { extname, join, normalize, sep } from 'node:path'

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.txt': 'text/plain; charset=utf-8',
}

/** What isolates a page, so that its threads may share memory. */
export const isolation = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
}

/** Serves the files of a folder, with ranges; for one's own machine. @returns the server and its URL */
export async function serveWeb(
  folder: string,
  port: number,
  headers: Readonly<Record<string, string>> = isolation,
): Promise<{ readonly server: Server; readonly url: string }> {
  const server = createServer((request, response) => {
    answer(folder, request, response, headers).catch(() => response.destroy())
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/` }
}

async function answer(
  folder: string,
  request: IncomingMessage,
  response: ServerResponse,
  headers: Readonly<Record<string, string>>,
): Promise<void> {
  const { pathname } = new URL(request.url ?? '/', 'http://page')
  const path = normalize(join(folder, decodeURIComponent(pathname === '/' ? '/index.html' : pathname)))
  const found = path.startsWith(folder + sep) ? await stat(path).catch(() => undefined) : undefined
  if (!found?.isFile()) return void response.writeHead(404, headers).end()
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? []
  const start = Number(first ?? 0)
  const end = Math.min(found.size, last ? Number(last) + 1 : found.size)
  if (start > end) return void response.writeHead(416, headers).end()
  response.writeHead(first === undefined ? 200 : 206, {
    ...headers,
    'Content-Type': types[extname(path)] ?? 'application/octet-stream',
    'Content-Length': end - start,
    'Accept-Ranges': 'bytes',
    'Cache-Control': 'no-cache',
    ...(first !== undefined && { 'Content-Range': `bytes ${start}-${end - 1}/${found.size}` }),
  })
  if (request.method === 'HEAD') return void response.end()
  const file = await open(path)
  const bytes = Buffer.alloc(end - start)
  await file.read(bytes, 0, bytes.length, start).finally(() => file.close())
  response.end(bytes)
}
