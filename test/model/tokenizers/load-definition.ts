import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadTokenizer, type Tokenizer } from '../../../src/model/tokenizer.js'

/** Loads a tokenizer.json that is written out for it: an object, or the text of the file. */
export async function loadDefinition(definition: unknown): Promise<Tokenizer> {
  const folder = await mkdtemp(join(tmpdir(), 'gptvq-tokenizer-'))
  try {
    const text = typeof definition === 'string' ? definition : JSON.stringify(definition)
    await writeFile(join(folder, 'tokenizer.json'), text)
    return await loadTokenizer(folder)
  } finally {
    await rm(folder, { recursive: true })
  }
}
