import { join } from 'node:path'
import { CheckpointError } from '../errors.js'
import { isGgufPath, openGguf } from '../gguf/read-gguf.js'
import { tokenizerOfGguf } from '../gguf/tokenizer/tokenizer-of-gguf.js'
import { resolveModel } from '../hub/resolve-model.js'
import { systemErrorCode } from './file-errors.js'
import { readSmallFile } from './json-file.js'

/**
 * The text of one of a model's small files, e.g. `tokenizer.json`: from its folder, or made of the metadata of a GGUF
 * file.
 *
 * @returns undefined when there is none of that name
 * @throws CheckpointError when a GGUF file is missing or damaged; when the file cannot be read, is no plain file, has more
 *   than 100 MB or is not UTF-8
 */
export async function readModelText(place: string, name: string): Promise<string | undefined> {
  const model = await resolveModel(place)
  if (isGgufPath(model)) {
    const file = await openGguf(model)
    await file.close()
    return tokenizerOfGguf(file.metadata).get(name)
  }
  const path = join(model, name)
  const bytes = await readSmallFile(path).catch((error: unknown) => {
    if (error instanceof Error && systemErrorCode(error.cause) === 'ENOENT') return undefined
    throw error
  })
  if (bytes === undefined) return undefined
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new CheckpointError(`${path}: is not UTF-8 text; the file is damaged`, { cause })
  }
}
