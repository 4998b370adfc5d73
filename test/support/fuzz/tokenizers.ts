import { readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { randomGenerator } from '../../../src/common/random.js'
import { loadTokenizer } from '../../../src/model.js'
import { type Fuzzer, tryCall } from './fuzzer.js'
import { changedJson, pick } from './mutate.js'

interface Grid {
  readonly texts: readonly string[]
  readonly models: Record<string, unknown>
  readonly cases: readonly { readonly model: string; readonly [key: string]: unknown }[]
}

/** What the cases of the grid have beside the definition. */
const apart = new Set(['name', 'ids', 'decoded', 'oddText', 'refused'])

/** Definitions of every feature of a tokenizer.json, changed, and hard texts to take apart by them. */
export const tokenizerFuzzer: Fuzzer = {
  name: 'tokenizers',
  async prepare(work) {
    const url = new URL('../../model/tokenizers/grid.json', import.meta.url)
    const grid: Grid = JSON.parse(readFileSync(url, 'utf8'))
    const definitions = grid.cases.map((entry) => {
      const own = Object.entries(entry).filter(([key]) => !apart.has(key))
      const definition = { ...Object.fromEntries(own), model: grid.models[entry.model] }
      return new TextEncoder().encode(JSON.stringify(definition))
    })
    const folder = join(work, 'tokenizer')
    await mkdir(folder)
    return async (seed) => {
      const random = randomGenerator(seed)
      const definition = changedJson(definitions[seed % definitions.length], random)
      await writeFile(join(folder, 'tokenizer.json'), definition)
      const texts = Array.from({ length: 4 }, () => pick(grid.texts, random))
      return tryCall(`tokenizer ${seed % definitions.length}`, async () => {
        const tokenizer = await loadTokenizer(folder)
        for (const text of texts) {
          const ids = tokenizer.encode(text)
          if (!ids.every((id) => Number.isInteger(id) && id >= 0)) throw new Error(`ids ${ids}`)
          tokenizer.decode(ids)
        }
      })
    }
  },
}
