import { GptvqError, TextError, throwIfAborted } from '../../common/errors.js'
import { builtin } from '../../kernels/builtin.js'

type Files = Pick<typeof import('node:fs'), 'constants' | 'createReadStream' | 'openSync'>
type Net = Pick<typeof import('node:net'), 'Socket'>
type Promises = Pick<typeof import('node:fs/promises'), 'stat'>

/** Bytes that come in, from a file, a pipe or standard input. */
export type ByteStream = AsyncIterable<Uint8Array | string> & { destroy?(): unknown }

/** No string of JavaScript is longer. */
const MOST_CHARACTERS = 2 ** 29 - 24

/** Bytes of UTF-8 at most for each unit of a string, and before them, where a byte order mark is dropped. */
const BYTES_PER_CHARACTER = 3

/** How a text is read. */
export interface ReadingOptions {
  /** Stops the reading with an AbortedError. */
  readonly signal?: AbortSignal | undefined
  /** Characters at most, as strings count them; default 2^29. */
  readonly most?: number
}

/**
 * The text of a file, or what comes out of a pipe, which may take its time or never end.
 *
 * @throws AbortedError; TextError when it cannot be read, is too long or not UTF-8, or is no file and no pipe
 */
export async function readTextFile(path: string, options: ReadingOptions = {}): Promise<string> {
  try {
    return await readTextOf(await openText(path, options), path, options)
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
  { signal, most = MOST_CHARACTERS }: ReadingOptions = {},
): Promise<string> {
  throwIfAborted(signal)
  const stop = () => stream.destroy?.()
  signal?.addEventListener('abort', stop)
  const decode = utf8Decoder(name)
  const parts: string[] = []
  let characters = 0
  try {
    for await (const part of stream) {
      parts.push(typeof part === 'string' ? part : decode(part))
      characters += parts[parts.length - 1].length
      if (characters > most) throw tooLong(name, most)
    }
  } catch (error) {
    throwIfAborted(signal)
    throw error
  } finally {
    signal?.removeEventListener('abort', stop)
  }
  throwIfAborted(signal)
  return parts.join('') + decode()
}

/** Whether a path leads to a pipe, which can be read once only. */
export async function isPipe(path: string): Promise<boolean> {
  const { stat } = builtin('node:fs/promises') as Promises
  return stat(path).then(
    (found) => found.isFIFO(),
    () => false,
  )
}

/** Refuses a pipe where a text is read more than once. @throws TextError */
export async function refusePipe(path: string): Promise<void> {
  if (!(await isPipe(path))) return
  throw new TextError(
    `${path}: is a pipe, which can be read only once; expected a UTF-8 text file, or what the pipe holds as { text }`,
  )
}

/** The error of a text file that the system does not give. */
export function unreadableText(path: string, cause: unknown): TextError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new TextError(`${path}: cannot be read (${reason}); expected a UTF-8 text file`, { cause })
}

async function openText(path: string, { most = MOST_CHARACTERS }: ReadingOptions): Promise<ByteStream> {
  const files = builtin('node:fs') as Files | undefined
  if (files === undefined) {
    throw new TextError(`${path}: there are no files to read here; give the text itself as { text }`)
  }
  const found = await (builtin('node:fs/promises') as Promises).stat(path)
  if (found.isFile() && found.size > BYTES_PER_CHARACTER * (most + 1)) throw tooLong(path, most)
  if (found.isFile() || found.isDirectory()) return files.createReadStream(path, { highWaterMark: 2 ** 20 })
  if (found.isSocket()) {
    throw new TextError(
      `${path}: is a socket, which cannot be opened by its path; expected a UTF-8 text file or a pipe, or on the command ` +
        'line - for standard input',
    )
  }
  if (!found.isFIFO()) throw new TextError(`${path}: is a device; expected a UTF-8 text file, or a pipe`)
  const { O_RDONLY, O_NONBLOCK } = files.constants
  // a pipe that is opened as files are waits for whoever writes into it, and nothing can stop that
  const fd = files.openSync(path, O_RDONLY | O_NONBLOCK)
  const { Socket } = builtin('node:net') as Net
  return new Socket({ fd, readable: true, writable: false })
}

function tooLong(name: string, most: number): TextError {
  return new TextError(`${name}: is longer than ${most} characters; expected less text`)
}

/** Decodes bytes as they come; without any, says whether they ended within a character. */
function utf8Decoder(name: string): (part?: Uint8Array) => string {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  return (part) => {
    try {
      return part === undefined ? decoder.decode() : decoder.decode(part, { stream: true })
    } catch (cause) {
      throw new TextError(`${name}: is not UTF-8 text; convert it to UTF-8`, { cause })
    }
  }
}
