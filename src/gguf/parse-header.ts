import type { ByteSource } from '../checkpoint/byte-source.js'
import { CheckpointError, UnsupportedError } from '../common/errors.js'

/** What the parser gives that is used here. */
export interface ParsedHeader {
  readonly metadata: Readonly<Record<string, unknown>>
  readonly tensorInfos: readonly {
    readonly name: string
    readonly shape: readonly bigint[]
    readonly dtype: number
    readonly offset: bigint
  }[]
  readonly tensorDataOffset: bigint
  readonly littleEndian: boolean
}

/** The parser reads by HTTP ranges; it is given those of the source. */
function rangesOf(source: ByteSource): typeof fetch {
  return async (_url, init) => {
    const asked = new Headers(init?.headers).get('Range')
    const [first, last] = /^bytes=(\d+)-(\d+)$/
      .exec(asked ?? '')!
      .slice(1)
      .map(Number)
    const start = Math.min(first, source.size)
    const bytes = await source.readAt(start, Math.min(last + 1, source.size) - start)
    const range = `bytes ${start}-${start + bytes.length - 1}/${source.size}`
    return new Response(bytes.slice(), { status: 206, headers: { 'Content-Range': range } })
  }
}

/**
 * Reads the header of a GGUF file.
 *
 * @throws CheckpointError when it is damaged, UnsupportedError when it is big-endian
 */
export async function parseHeader(source: ByteSource): Promise<ParsedHeader> {
  const { path, size } = source
  const { gguf } = await import('@huggingface/gguf')
  if (size < 24) throw damagedGguf(path, `has ${size} bytes, less than any header`)
  let header: ParsedHeader
  try {
    header = (await gguf('https://gguf.invalid/', { fetch: rangesOf(source) })) as unknown as ParsedHeader
  } catch (cause) {
    throw damagedGguf(path, cause instanceof Error ? cause.message : String(cause), cause)
  }
  if (header.littleEndian) return header
  throw new UnsupportedError(
    `${path}: is a big-endian file; expected a little-endian one. Convert the model again on a little-endian machine`,
  )
}

/** The error of a GGUF file that is not what its format asks for. */
export function damagedGguf(path: string, what: string, cause?: unknown): CheckpointError {
  return new CheckpointError(`${path}: is no sound GGUF file: ${what}. Fetch it again`, { cause })
}
