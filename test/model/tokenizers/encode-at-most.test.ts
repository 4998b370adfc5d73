import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { randomGenerator } from '../../../src/common/random.js'
import { byteLetters } from '../../../src/model/tokenizer/byte-letters.js'
import { readSection } from '../../../src/model/tokenizer/section.js'
import { readModel } from '../../../src/model/tokenizer/words/model.js'
import { loadDefinition } from './load-definition.js'

const file = 'tokenizer.json'
const read = (path: string) => JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'))
const { models, texts, cases } = read('grid.json') as {
  models: Record<string, object>
  texts: string[]
  cases: { model: string; refused?: string; name: string }[]
}

/** Words of letters in and out of vocabularies, in runs and mixed. */
function randomWords(count: number): string[] {
  const random = randomGenerator(3)
  const letters = [...new Set(texts.join(''))]
  return Array.from({ length: count }, () => {
    const few = Array.from({ length: 1 + Math.floor(4 * random()) }, () => pick(letters))
    return Array.from({ length: 1 + Math.floor(60 * random()) }, () => pick(few)).join('')
  })
  function pick<T>(list: readonly T[]): T {
    return list[Math.floor(random() * list.length)]
  }
}

describe('what a word is certain to have more ids than', () => {
  it.each(Object.keys(models).filter((name) => name !== 'bpe dropout'))('is less than it has: %s', (name) => {
    const model = readModel(readSection({ model: models[name] }, file), file)
    for (const word of [...texts, ...randomWords(400)]) {
      if (word === '') continue
      let ids: readonly number[]
      try {
        ids = model.encode(word)
      } catch {
        // a word that the model has no ids for
        continue
      }
      expect(model.surelyExceeds(word, ids.length), JSON.stringify(word)).toBe(false)
    }
  })

  it('is 100,000 and more for megabytes of one letter', () => {
    const definition = read('../../../examples/models/tiny-llama/tokenizer.json')
    const model = readModel(readSection(definition, file), file)
    expect(model.surelyExceeds('a'.repeat(4e6), 100_000)).toBe(true)
  })
})

describe('encodeAtMost', () => {
  it.each(cases.filter(({ name }) => /^(model|pre_tokenizer): /.test(name)))(
    'gives all ids where there are few enough, nothing elsewhere: $name',
    async ({ name: _, model, refused, ...rest }) => {
      const tokenizer = await loadDefinition({ ...rest, model: models[model] }).catch(() => undefined)
      for (const text of tokenizer === undefined ? [] : texts) {
        let ids: Int32Array
        try {
          ids = tokenizer!.encode(text)
        } catch {
          continue
        }
        for (const most of [ids.length + 1, ids.length]) {
          expect(await tokenizer!.encodeAtMost(text, most)).toEqual(ids)
        }
        if (ids.length > 0) expect(await tokenizer!.encodeAtMost(text, ids.length - 1)).toBeUndefined()
      }
    },
  )

  it('looks no further into a text than it takes: what has no id behind that does not come up', async () => {
    const tokenizer = await loadDefinition({
      model: { type: 'WordLevel', vocab: { a: 0 } },
      pre_tokenizer: { type: 'WhitespaceSplit' },
    })
    await expect(tokenizer.encodeAtMost('a a a unknown', 3)).rejects.toThrow('"unknown"')
    expect(await tokenizer.encodeAtMost('a a a unknown', 2)).toBeUndefined()
  })
})

describe('a text that is one word, for want of a splitting rule', () => {
  // of so long a token, letters tell little of how many ids a word has
  const long = '▁a'.repeat(500)
  const model = { type: 'BPE', vocab: { '▁': 0, a: 1, '▁a': 2, [long]: 3 }, merges: [['▁', 'a']] }

  it('is looked into no further than it takes', async () => {
    const tokenizer = await loadDefinition({ model: { ...model, unk_token: 'not in the vocabulary' } })
    const text = `${'▁a'.repeat(100)}?`
    await expect(tokenizer.encodeAtMost(text, 100)).rejects.toThrow('"?"')
    expect(await tokenizer.encodeAtMost(text, 50)).toBeUndefined()
  })

  it('is left at a stop on the way', async () => {
    const { signal } = new AbortController()
    let looks = 0
    Object.defineProperty(signal, 'aborted', { get: () => looks++ > 0 })
    const tokenizer = await loadDefinition({ model })
    const text = '▁a'.repeat(3000)
    await expect(tokenizer.encodeInTurns(text, signal)).rejects.toMatchObject({ code: 'ABORTED' })
    expect(await tokenizer.encodeInTurns(text)).toEqual(new Int32Array(3000).fill(2))
  })
})

it('a long text is spelled in byte letters as its parts are', () => {
  const part = 'naïve 😀\n '
  expect(byteLetters(part.repeat(1000))).toBe(byteLetters(part).repeat(1000))
})
