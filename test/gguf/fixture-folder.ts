import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fixtureFolder } from '../model/families/fixture.js'

/** Copies a fixture, which has no tokenizer, and gives it one of a token per id: byte-level, or made of SentencePiece. */
export async function copyFixture(name: string, folder: string): Promise<string> {
  await cp(join(fixtureFolder, name), folder, { recursive: true })
  const { vocab_size: size } = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'))
  const vocab = Object.fromEntries(Array.from({ length: size }, (_, id) => [`t${id}`, id]))
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true }
  const definition = {
    version: '1.0',
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: { type: 'BPE', unk_token: null, fuse_unk: false, byte_fallback: false, vocab, merges: [] },
  }
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(definition))
  return folder
}
