import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { ApiError } from './api-error.js'

/** Throws ApiError for requests that may not come in. */
export type Guard = (request: IncomingMessage) => void

const digest = (text: string) => createHash('sha256').update(text).digest()

/** Asks for `Authorization: Bearer KEY`; how long the comparison takes tells nothing of the key. */
export function keyGuard(apiKey: string): Guard {
  const expected = digest(apiKey)
  return ({ headers }) => {
    const [, given] = /^Bearer +(.*)$/i.exec(headers.authorization ?? '') ?? []
    if (given !== undefined && timingSafeEqual(digest(given), expected)) return
    const what = given === undefined ? 'no API key came' : 'the API key is wrong'
    throw new ApiError(401, `${what}; expected the header Authorization: Bearer KEY`, {
      code: 'invalid_api_key',
    })
  }
}

const loopback = /^(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$/i

/** Whether only this machine can reach a host. */
export function isLoopback(host: string): boolean {
  return /^(localhost|127(\.\d+){3}|::1)$/i.test(host)
}

/** For servers without a key: a web page whose name was made to lead to this machine may not use it. */
export const loopbackGuard: Guard = ({ headers }) => {
  if (loopback.test(headers.host ?? '')) return
  throw new ApiError(
    403,
    'the Host header is not of this machine; start the server with an API key to reach it by another name',
    { code: 'forbidden_host' },
  )
}
