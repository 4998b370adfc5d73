import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'

/** How a server of files misbehaves. */
export interface ServerFaults {
  /** Answers every request with the whole file. */
  readonly noRanges?: boolean
  /** Ends every range one byte early. */
  readonly shortRanges?: boolean
}

/** A server of the files of one folder that knows ranges, and what was asked of it. */
export interface FileServer {
  readonly url: string
  readonly requests: string[]
  close(): Promise<void>
}

export async function serveFolder(folder: string, faults: ServerFaults = {}): Promise<FileServer> {
  const requests: string[] = []
  const server = createServer(async (request, response) => {
    const { method = '', url = '', headers } = request
    requests.push(`${method} ${url} ${headers.range ?? ''}`.trim())
    const bytes = await readFile(join(folder, decodeURIComponent(url.slice(1)))).catch(() => undefined)
    if (bytes === undefined) return response.writeHead(404).end()
    if (method === 'HEAD') return response.writeHead(200).end()
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '') ?? []
    if (first === undefined || faults.noRanges) return response.end(bytes)
    const end = Math.min(Number(last) + 1, bytes.length) - (faults.shortRanges ? 1 : 0)
    response.writeHead(206, { 'Content-Range': `bytes ${first}-${end - 1}/${bytes.length}` })
    return response.end(bytes.subarray(Number(first), end))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}/`,
    requests,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
