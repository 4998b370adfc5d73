import { CheckpointError } from '../common/errors.js'
import { ggufModelText } from '../gguf/open-gguf-model.js'
import { systemErrorCode } from './file-errors.js'
import { locateModel } from './locate-model.js'
import { fileIn, type ModelPlace, type ModelSource, readSmallFile } from './model-source.js'

/**
 * The text of one of a model's small files, e.g. `tokenizer.json`: from its folder, or made of the metadata of a GGUF
 * file.
 *
 * @returns undefined when there is none of that name
 * @throws CheckpointError when a GGUF file is missing or damaged; when the file cannot be read, is no plain file, has more
 *   than 100 MB or is not UTF-8
 */
export async function readModelText(model: ModelPlace, name: string): Promise<string | undefined> {
  const source = await locateModel(model)
  try {
    if (source.main !== undefined) return await ggufModelText(source, name)
    const bytes = await readIfThere(source, name)
    return bytes && decodeText(bytes, fileIn(source, name))
  } finally {
    // what was given open is its owner's to close
    if (source !== model) await source.close?.()
  }
}

async function readIfThere(source: ModelSource, name: string): Promise<Uint8Array | undefined> {
  try {
    if (!(await source.list()).includes(name)) return undefined
    return await readSmallFile(source, name)
  } catch (error) {
    if (error instanceof Error && systemErrorCode(error.cause) === 'ENOENT') return undefined
    throw error
  }
}

/** A small file's text. @throws CheckpointError when it is not UTF-8 */
export function decodeText(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new CheckpointError(`${path}: is not UTF-8 text; the file is damaged`, { cause })
  }
}
