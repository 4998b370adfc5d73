import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { TextError, UnsupportedError } from '../../../src/common/errors.js'
import type { Tokenizer } from '../../../src/model/tokenizer.js'
import { loadDefinition } from './load-definition.js'

/** Written by scripts/oracle/token_ids.py. */
interface Grid {
  readonly texts: readonly string[]
  readonly models: Record<string, { vocab: Record<string, number> | unknown[] }>
  readonly cases: readonly Case[]
}

interface Case {
  readonly name: string
  readonly model: string
  /** Ids of each text, null for a text that the reference refuses. */
  readonly ids?: readonly (string | null)[]
  /** What these ids are decoded to. */
  readonly decoded?: readonly (string | null)[]
  /** What all tokens in an odd order are decoded to. */
  readonly oddText?: string
  /** Why the reference does not load the definition. */
  readonly refused?: string
}

const grid: Grid = JSON.parse(readFileSync(new URL('grid.json', import.meta.url), 'utf8'))

function load({ name, ids, decoded, oddText, refused, ...definition }: Case): Promise<Tokenizer> {
  return loadDefinition({ ...definition, model: grid.models[definition.model] })
}

/** What is refused here and not there, and by which words; all else has to be equal. */
const unsupported: Record<string, string> = {
  'model: bpe dropout': 'model.dropout 0.5',
  'model: bpe dropout, words': 'model.dropout 0.5',
  'pre_tokenizer: Split possessive': 'without the quantifier ++',
  'pre_tokenizer: Split atomic': 'without (?>',
  'pre_tokenizer: Split repeated group': 'without a repeated group that is a repetition itself',
  'pre_tokenizer: Split named group': 'without \\k<x>',
  'pre_tokenizer: Split flags': 'without (?m:',
  'pre_tokenizer: UnicodeScripts': 'pre_tokenizer.type "UnicodeScripts"',
  'decoder: CTC of bpe spaced bytes': 'decoder.type "CTC"',
}

/** Files that contradict themselves: the reference takes other ids than the file's, or any of two. */
const contradicting: Record<string, string> = {
  'added: with other ids': 'added_tokens[0].id is 77; expected 50',
  'added: same when normalized': 'added_tokens[1].content is "ab"; expected what no other added token is',
  'added: with a gap': 'added_tokens[0].id is 1000; expected 110',
}

const numbers = (ids: string) => (ids === '' ? [] : ids.split(' ').map(Number))

function encoded(tokenizer: Tokenizer, text: string): string | null {
  try {
    return tokenizer.encode(text).join(' ')
  } catch (error) {
    if (error instanceof TextError) return null
    throw error
  }
}

describe('features of tokenizer.json, against the reference', () => {
  const equal = grid.cases.filter(
    ({ name, refused }) => !(name in unsupported) && !(name in contradicting) && refused === undefined,
  )

  it('covers them', () => {
    expect(equal.length).toBeGreaterThan(200)
  })

  it.each(equal)('$name', async (given) => {
    const tokenizer = await load(given)
    expect(grid.texts.map((text) => encoded(tokenizer, text))).toEqual(given.ids)
    given.decoded?.forEach((text, index) => {
      const ids = given.ids?.[index]
      if (typeof ids === 'string') expect(tokenizer.decode(Int32Array.from(numbers(ids)))).toBe(text)
    })
  })

  it.each(equal.filter(({ oddText }) => oddText !== undefined))(
    '$name, of tokens in an odd order',
    async (given) => {
      const tokenizer = await load(given)
      const size = Object.keys(grid.models[given.model].vocab).length
      const ids = Int32Array.from({ length: size }, (_, index) => (index * 7919) % size)
      expect(tokenizer.decode(ids)).toBe(given.oddText)
    },
  )
})

describe('what is refused, by name', () => {
  const find = (name: string) => grid.cases.find((each) => each.name === name)!

  it.each(Object.entries(unsupported))('%s', async (name, words) => {
    await expect(load(find(name))).rejects.toThrow(UnsupportedError)
    await expect(load(find(name))).rejects.toThrow(words)
    await expect(load(find(name))).rejects.toThrow('is not supported; supported: ')
  })

  it.each(Object.entries(contradicting))('%s', async (name, words) => {
    await expect(load(find(name))).rejects.toThrow(words)
  })

  it.each(grid.cases.filter(({ refused }) => refused !== undefined))(
    '$name, as the reference does',
    async (given) => {
      await expect(load(given)).rejects.toThrow('the file is damaged')
    },
  )
})
