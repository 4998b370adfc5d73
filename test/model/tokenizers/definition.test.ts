import { describe, expect, it } from 'vitest'
import { CheckpointError, UnsupportedError } from '../../../src/common/errors.js'
import { spellFolds } from '../../../src/model/tokenizer/case-folding.js'
import { findHardPart } from '../../../src/model/tokenizer/pattern-check.js'
import { loadDefinition } from './load-definition.js'

const bpe = { type: 'BPE', vocab: { a: 0, b: 1, ab: 2 }, merges: [['a', 'b']] }
const unigram = { type: 'Unigram', vocab: [['a', -1]] }
const added = { id: 3, content: '<x>' }

describe('a tokenizer.json of the wrong structure names the field', () => {
  it.each<[string, object, string]>([
    ['a model that is a list', { model: [] }, 'model is []; expected an object'],
    ['no vocabulary', { model: { type: 'BPE', merges: [] } }, 'model.vocab is missing; expected an object'],
    [
      'an empty vocabulary',
      { model: { ...bpe, vocab: {} } },
      'model.vocab is {}; expected at least one token',
    ],
    ['an id that is a string', { model: { ...bpe, vocab: { a: '0' } } }, 'model.vocab'],
    ['an id beyond all vocabularies', { model: { ...bpe, vocab: { a: 2 ** 30 } } }, '"a" has 1073741824'],
    ['no merges', { model: { ...bpe, merges: null } }, 'model.merges is null; expected a list'],
    ['a merge of three', { model: { ...bpe, merges: ['a b c'] } }, 'number 0 is "a b c"'],
    ['a merge that is a number', { model: { ...bpe, merges: [['a', 'b'], 7] } }, 'number 1 is 7'],
    [
      'a merge of unknown tokens',
      { model: { ...bpe, merges: [['a', 'x']] } },
      '"x" of number 0 is not in it',
    ],
    [
      'a merge to an unknown token',
      { model: { ...bpe, merges: [['b', 'a']] } },
      '"ba" of number 0 is not in it',
    ],
    [
      'an unknown token that is a number',
      { model: { ...bpe, unk_token: 3 } },
      'model.unk_token is 3; expected a string',
    ],
    [
      'a flag that is a string',
      { model: { ...bpe, byte_fallback: 'no' } },
      'model.byte_fallback is "no"; expected true or false',
    ],
    ['a piece without a score', { model: { ...unigram, vocab: [['a', -1], ['b']] } }, 'number 1 is ["b"]'],
    [
      'an unknown piece beyond the last',
      { model: { ...unigram, unk_id: 1 } },
      'model.unk_id is 1; expected less than 1',
    ],
    [
      'added tokens that are no list',
      { model: bpe, added_tokens: {} },
      'added_tokens is {}; expected a list',
    ],
    [
      'an added token without content',
      { model: bpe, added_tokens: [{ id: 3 }] },
      'added_tokens[0].content is missing',
    ],
    [
      'an added token of another id',
      { model: bpe, added_tokens: [{ ...added, id: 9 }] },
      'added_tokens[0].id is 9; expected 3',
    ],
    [
      'an added token with a flag that is a number',
      { model: bpe, added_tokens: [{ ...added, lstrip: 1 }] },
      'added_tokens[0].lstrip is 1',
    ],
    [
      'a normalizer that is a string',
      { model: bpe, normalizer: 'NFC' },
      'normalizer is "NFC"; expected an object',
    ],
    [
      'a normalizer without a type',
      { model: bpe, normalizer: {} },
      'normalizer.type is missing; expected a string',
    ],
    [
      'a field deep within',
      {
        model: bpe,
        normalizer: { type: 'Sequence', normalizers: [{ type: 'NFC' }, { type: 'Prepend', prepend: 1 }] },
      },
      'normalizer.normalizers[1].prepend is 1; expected a string',
    ],
    [
      'a pattern that is a string',
      { model: bpe, pre_tokenizer: { type: 'Split', pattern: 'a' } },
      'pre_tokenizer.pattern is "a"; expected an object',
    ],
    [
      'words of no length',
      { model: bpe, pre_tokenizer: { type: 'FixedLength', length: 0 } },
      'pre_tokenizer.length is 0',
    ],
    [
      'a character map that is none',
      { model: bpe, normalizer: { type: 'Precompiled', precompiled_charsmap: 'AAAA' } },
      'normalizer.precompiled_charsmap is "AAAA"; expected a character map',
    ],
    [
      'a decoder with a number of letters below 0',
      { model: bpe, decoder: { type: 'Strip', content: ' ', start: -1, stop: 0 } },
      'decoder.start is -1',
    ],
  ])('%s', async (_, definition, message) => {
    await expect(loadDefinition(definition)).rejects.toThrow(CheckpointError)
    await expect(loadDefinition(definition)).rejects.toThrow(message)
  })
})

describe('a tokenizer.json of another kind names the field and what there is', () => {
  const split = (Regex: string) => ({
    type: 'Split',
    pattern: { Regex },
    behavior: 'Isolated',
    invert: false,
  })
  it.each<[string, object, string]>([
    [
      'model',
      { model: { type: 'Cuneiform' } },
      'model.type "Cuneiform" is not supported; supported: BPE, WordPiece',
    ],
    [
      'normalizer',
      { model: bpe, normalizer: { type: 'NFX' } },
      'normalizer.type "NFX" is not supported; supported: NFC',
    ],
    [
      'pre-tokenizer',
      { model: bpe, pre_tokenizer: { type: 'ICU' } },
      'pre_tokenizer.type "ICU" is not supported',
    ],
    ['decoder', { model: bpe, decoder: { type: 'Morse' } }, 'decoder.type "Morse" is not supported'],
    [
      'name that all objects have',
      { model: bpe, decoder: { type: 'constructor' } },
      'decoder.type "constructor" is not',
    ],
    [
      'expression',
      { model: bpe, pre_tokenizer: split('\\p{Runes}') },
      'pre_tokenizer.pattern.Regex "\\\\p{Runes}" is not',
    ],
    [
      'behavior',
      { model: bpe, pre_tokenizer: { ...split('a'), behavior: 'Doubled' } },
      'pre_tokenizer.behavior "Doubled"',
    ],
  ])('%s', async (_, definition, message) => {
    await expect(loadDefinition(definition)).rejects.toThrow(UnsupportedError)
    await expect(loadDefinition(definition)).rejects.toThrow(message)
  })
})

describe('expressions', () => {
  it.each(['(?i:ss)', '(?i:é)', '(?i:\\p{L})', '(?i:(a))', 'a(?i:x)|(?i:(a))', '(?i:[[a]b])'])(
    '%s has cases that are refused',
    (source) => {
      expect(spellFolds(source)).toBeUndefined()
    },
  )

  it.each([
    ["'(?i:[sdmt]|ll|ve|re)", "'(?i:[\u017fsdmt]|ll|ve|re)"],
    ["(?i:'s|k)s", "(?i:'[s\u017f]|[k\u212a])s"],
    ['(?i:[^a-z-])', '(?i:[^\u017f\u212aa-z-])'],
    ['[sk]s', '[sk]s'],
  ])('%s has its cases spelled out', (source, spelled) => {
    expect(spellFolds(source)).toBe(spelled)
  })

  it.each([
    '(e+)+$',
    '(?:a|b*)*',
    '((\\s+)){2,}',
    '(?:[ab]+)+',
    'a++',
    'a{2}?',
    'a?+',
    '(?>a)',
    '(?s:.)',
    '(?<=a)\\1',
    '\\Ga',
  ])('%s is refused', (source) => {
    expect(findHardPart(source)).toBeDefined()
  })

  it.each([
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    '(?:\\p{L}\\p{M}*)+',
    '[(+)+]+',
    '\\(+\\)+',
    '(?:a+b)+',
    '(a+)?b*?',
    '[]a]+[^]b]+[[ab]&&[^a]]+',
    '{a}{,2}',
  ])('%s is not', (source) => {
    expect(findHardPart(source)).toBeUndefined()
  })
})
