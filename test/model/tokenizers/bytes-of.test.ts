import { expect, it } from 'vitest'
import { TextError } from '../../../src/common/errors.js'
import { loadTokenizer } from '../../../src/model/tokenizer.js'
import { tinyLlamaFolder } from '../tiny-llama.js'
import { loadDefinition } from './load-definition.js'

const text = (bytes: Uint8Array) => new TextDecoder('utf-8', { fatal: true }).decode(bytes)

it('bytes of byte-level tokens, put together, are those of the text, within characters too', async () => {
  const tokenizer = await loadTokenizer(tinyLlamaFolder)
  const given = 'The naïve 😀 said:\n "no" '
  const ids = [...tokenizer.encode(given)]
  expect(text(Uint8Array.from(ids.flatMap((id) => [...tokenizer.bytesOf(id)])))).toBe(given)
  const [first] = tokenizer.encode('😀')
  expect([...tokenizer.bytesOf(first)]).toEqual([0xf0])
  expect(() => tokenizer.bytesOf(10 ** 6)).toThrow(TextError)
})

it.each([
  [
    'as Llama 2',
    {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
  ],
  ['with a metaspace', { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' }],
])('a token keeps the space that it begins with, %s', async (_, decoder) => {
  const vocab = { '▁a': 0, a: 1, '▁': 2, '▁▁': 3 }
  const tokenizer = await loadDefinition({ model: { type: 'BPE', vocab, merges: [] }, decoder })
  expect([0, 1, 2, 3].map((id) => text(tokenizer.bytesOf(id)))).toEqual([' a', 'a', ' ', '  '])
})

it('a token that is named by a byte is that byte', async () => {
  const decoder = { type: 'ByteFallback' }
  const tokenizer = await loadDefinition({
    model: { type: 'BPE', vocab: { '<0xE2>': 0 }, merges: [] },
    decoder,
  })
  expect([...tokenizer.bytesOf(0)]).toEqual([0xe2])
})

it('a token that continues a word is what it adds', async () => {
  const vocab = { un: 0, '##able': 1, '[UNK]': 2 }
  const decoder = { type: 'WordPiece', prefix: '##', cleanup: true }
  const tokenizer = await loadDefinition({ model: { type: 'WordPiece', vocab, unk_token: '[UNK]' }, decoder })
  expect([0, 1].map((id) => text(tokenizer.bytesOf(id)))).toEqual([' un', 'able'])
})
