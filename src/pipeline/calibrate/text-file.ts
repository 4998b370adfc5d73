import { GptvqError, TextError, throwIfAborted } from '../../common/errors.js'
import { builtin } from '../../kernels/builtin.js'

type Files = Pick<typeof import('node:fs'), 'constants' | 'createReadStream' | 'openSync'>
type Net = Pick<typeof import('node:net'), 'Socket'>
type Promises = Pick<typeof import('node:fs/promises'), 'stat'>

/** Bytes that come in, from a file, a pipe or standard input. */
export type ByteStream = AsyncIterable<Uint8Array | string> & { destroy?(): unknown }

/** No string of JavaScript is longer. */
const MOST_BYTES = 2 ** 29 - 24

/** How a text is read. */
export interface ReadingOptions {
  /** Stops the reading with an AbortedError. */
  readonly signal?: AbortSignal | undefined
  /** Bytes at most, default 512 MiB. */
  readonly most?: number
}

/**
 * The text of a file, or what comes out of a pipe, which may take its time or never end.
 *
 * @throws AbortedError; TextError when it cannot be read, is too long or not UTF-8, or is no file and no pipe
 */
export async function readTextFile(path: string, options: ReadingOptions = {}): Promise<string> {
  try {
    return await readTextOf(await openText(path), path, options)
  } catch (cause) {
    throw cause instanceof GptvqError ? cause : unreadableText(path, cause)
  }
}

/**
 * The text that a stream brings.
 *
 * @param name how errors name it
 * @throws as {@link readTextFile}
 */
export async function readTextOf(
  stream: ByteStream,
  name: string,
  { signal, most = MOST_BYTES }: ReadingOptions = {},
): Promise<string> {
  throwIfAborted(signal)
  const stop = () => stream.destroy?.()
  signal?.addEventListener('abort', stop)
  const encoder = new TextEncoder()
  const parts: Uint8Array[] = []
  let bytes = 0
  try {
    for await (const part of stream) {
      parts.push(typeof part === 'string' ? encoder.encode(part) : part)
      bytes += parts[parts.length - 1].length
      if (bytes > most) throw tooLong(name, most)
    }
  } catch (error) {
    throwIfAborted(signal)
    throw error
  } finally {
    signal?.removeEventListener('abort', stop)
  }
  throwIfAborted(signal)
  return decoded(parts, name)
}

/** Whether a path leads to a pipe, which can be read once only. */
export async function isPipe(path: string): Promise<boolean> {
  const { stat } = builtin('node:fs/promises') as Promises
  return stat(path).then(
    (found) => found.isFIFO(),
    () => false,
  )
}

/** The error of a text file that the system does not give. */
export function unreadableText(path: string, cause: unknown): TextError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new TextError(`${path}: cannot be read (${reason}); expected a UTF-8 text file`, { cause })
}

async function openText(path: string): Promise<ByteStream> {
  const files = builtin('node:fs') as Files | undefined
  if (files === undefined) {
    throw new TextError(`${path}: there are no files to read here; give the text itself as { text }`)
  }
  const found = await (builtin('node:fs/promises') as Promises).stat(path)
  if (found.isFile() || found.isDirectory()) return files.createReadStream(path, { highWaterMark: 2 ** 20 })
  if (!found.isFIFO()) throw new TextError(`${path}: is a device; expected a UTF-8 text file, or a pipe`)
  const { O_RDONLY, O_NONBLOCK } = files.constants
  // a pipe that is opened as files are waits for whoever writes into it, and nothing can stop that
  const fd = files.openSync(path, O_RDONLY | O_NONBLOCK)
  const { Socket } = builtin('node:net') as Net
  return new Socket({ fd, readable: true, writable: false })
}

function tooLong(name: string, most: number): TextError {
  const limit = most < 2 ** 20 ? `${most} bytes` : `${Math.round(most / 2 ** 20)} MiB`
  return new TextError(`${name}: is longer than ${limit}; expected less text`)
}

function decoded(parts: readonly Uint8Array[], name: string): string {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  try {
    return parts.map((part) => decoder.decode(part, { stream: true })).join('') + decoder.decode()
  } catch (cause) {
    throw new TextError(`${name}: is not UTF-8 text; convert it, or give the path of a text file`, { cause })
  }
}
