import type { ByteSource } from '../checkpoint/byte-source.js'
import { CheckpointError, UnsupportedError } from '../common/errors.js'

/** What stands in a browser in the place of `parse-header.ts`, whose parser brings parts of Node. @throws UnsupportedError */
export async function parseHeader({ path }: ByteSource): Promise<never> {
  throw new UnsupportedError(
    `${path}: GGUF files are read in Node only. Give a model folder: gptvq quantize and gptvq dequantize write one`,
  )
}

/** The error of a GGUF file that is not what its format asks for. */
export function damagedGguf(path: string, what: string): CheckpointError {
  return new CheckpointError(`${path}: is no sound GGUF file: ${what}. Fetch it again`)
}
