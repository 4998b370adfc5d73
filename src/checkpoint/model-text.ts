import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isGgufPath, openGguf } from '../gguf/read-gguf.js'
import { tokenizerOfGguf } from '../gguf/tokenizer/tokenizer-of-gguf.js'
import { resolveModel } from '../hub/resolve-model.js'

/**
 * The text of one of a model's small files, e.g. `tokenizer.json`: from its folder, or made of the metadata of a GGUF
 * file.
 *
 * @returns undefined when there is none of that name
 * @throws CheckpointError when a GGUF file is missing or damaged; the error of the system when a folder cannot be read
 */
export async function readModelText(place: string, name: string): Promise<string | undefined> {
  const model = await resolveModel(place)
  if (isGgufPath(model)) {
    const file = await openGguf(model)
    await file.close()
    return tokenizerOfGguf(file.metadata).get(name)
  }
  try {
    return await readFile(join(model, name), 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
