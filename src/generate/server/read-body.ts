import type { IncomingMessage } from 'node:http'
import { ApiError } from './api-error.js'

/**
 * The JSON body of a request.
 *
 * @throws ApiError when it is larger than `most` bytes, of another type, no JSON, or the client goes away
 */
export async function readJsonBody(request: IncomingMessage, most: number): Promise<unknown> {
  // another type would let any web page that the user visits send requests without asking first
  if (!/^application\/json\s*(;|$)/i.test(request.headers['content-type'] ?? '')) {
    throw new ApiError(415, 'expected a body with the content type application/json')
  }
  const tooLarge = () => new ApiError(413, `the body is larger than ${most} bytes; shorten the prompt`)
  if (Number(request.headers['content-length'] ?? 0) > most) throw tooLarge()
  const parts: Buffer[] = []
  let bytes = 0
  try {
    for await (const part of request as AsyncIterable<Buffer>) {
      bytes += part.length
      if (bytes > most) throw tooLarge()
      parts.push(part)
    }
  } catch (error) {
    if (error instanceof ApiError) throw error
    throw new ApiError(400, 'the connection ended within the body')
  }
  return parseJson(Buffer.concat(parts))
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new ApiError(400, `the body is not JSON: ${reason}`)
  }
}
