import { execFileSync } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Tokenizer as PlainTokenizer } from '@huggingface/tokenizers'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AbortedError, CheckpointError, TextError, UnsupportedError } from '../../src/common/errors.js'
import { describeDecoder } from '../../src/model/families/index.js'
import { cutUnjoined, joinedPairs } from '../../src/model/tokenizer/word-cuts.js'
import { checkVocabulary, loadTokenizer } from '../../src/model/tokenizer.js'
import { smallConfig } from './reference-forward.js'
import { tinyLlamaFolder } from './tiny-llama.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-tokenizer-'))
})
afterAll(() => rm(folder, { recursive: true }))

interface Definition {
  added_tokens: { id: number; content: string; special: boolean; [flag: string]: unknown }[]
  model: { vocab: Record<string, number>; merges: (string | [string, string])[] }
}

const tinyDefinition = async (): Promise<Definition> =>
  JSON.parse(await readFile(join(tinyLlamaFolder, 'tokenizer.json'), 'utf8'))

async function loadDefinition(definition: unknown) {
  const text = typeof definition === 'string' ? definition : JSON.stringify(definition)
  await writeFile(join(folder, 'tokenizer.json'), text)
  return loadTokenizer(folder)
}

/** Byte-level byte-pair encoding as its papers describe it: merge the best pair until there is none. */
function encodeByHand({ model }: Definition, text: string): number[] {
  const printable = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255)
  const others = Array.from({ length: 256 }, (_, byte) => byte).filter((byte) => !printable(byte))
  const letter = (byte: number) => String.fromCodePoint(printable(byte) ? byte : 256 + others.indexOf(byte))
  const ranks = new Map(
    model.merges.map((merge, rank) => [typeof merge === 'string' ? merge : merge.join(' '), rank]),
  )
  const words = text.match(/'(?:[stmd]|re|ve|ll)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu) ?? []
  return words.flatMap((word) => {
    let parts = Array.from(new TextEncoder().encode(word), letter)
    while (parts.length > 1) {
      const found = parts
        .slice(1)
        .map((part, i) => ranks.get(`${parts[i]} ${part}`) ?? Number.POSITIVE_INFINITY)
      const best = found.indexOf(Math.min(...found))
      if (found[best] === Number.POSITIVE_INFINITY) break
      parts = [...parts.slice(0, best), parts[best] + parts[best + 1], ...parts.slice(best + 2)]
    }
    return parts.map((part) => model.vocab[part])
  })
}

describe('the tokenizer of the embedded model', () => {
  it('gives the ids that merging by hand gives, with nothing put before or after', async () => {
    const tokenizer = await loadTokenizer(tinyLlamaFolder)
    const definition = await tinyDefinition()
    const prose = (await readFile(join(tinyLlamaFolder, 'texts', 'evaluation.txt'), 'utf8')).slice(0, 4000)
    for (const text of [prose, ' = Title = \n\n  It’s 12,345 – naïve 🦙\t!', 'a']) {
      expect(Array.from(tokenizer.encode(text))).toEqual(encodeByHand(definition, text))
    }
  })

  it('decodes a whole text back to itself', async () => {
    const tokenizer = await loadTokenizer(tinyLlamaFolder)
    const text = await readFile(join(tinyLlamaFolder, 'texts', 'evaluation.txt'), 'utf8')
    const ids = tokenizer.encode(text)
    expect(tokenizer.decode(ids)).toBe(text)
    expect(Math.max(...ids)).toBeLessThan(tokenizer.vocabSize)
    expect(tokenizer.vocabSize).toBe(4096)
  })

  it('encodes an empty text to no ids and back', async () => {
    const tokenizer = await loadTokenizer(tinyLlamaFolder)
    expect(tokenizer.encode('')).toEqual(new Int32Array(0))
    expect(tokenizer.decode(new Int32Array(0))).toBe('')
  })

  it('refuses to decode an id it does not have', async () => {
    const tokenizer = await loadTokenizer(tinyLlamaFolder)
    expect(() => tokenizer.decode(Int32Array.of(5, 4096))).toThrow(TextError)
    expect(() => tokenizer.decode(Int32Array.of(5, 4096))).toThrow('no token with the id 4096')
  })
})

describe('loadTokenizer', () => {
  it('says that tokenizer.json is missing', async () => {
    const nowhere = join(folder, 'nowhere')
    await expect(loadTokenizer(nowhere)).rejects.toThrow(CheckpointError)
    await expect(loadTokenizer(nowhere)).rejects.toThrow('no such file')
  })

  it.each([
    ['cut off', '{"model": {"type": "BPE", "voc'],
    ['a list', '[]'],
    ['without a model', '{}'],
  ])('says that a tokenizer.json %s is damaged', async (_, text) => {
    await expect(loadDefinition(text)).rejects.toThrow(CheckpointError)
    await expect(loadDefinition(text)).rejects.toThrow(/tokenizer\.json: .* the file is damaged/)
  })
})

describe('checkVocabulary', () => {
  const config = (vocab: number) => describeDecoder({ ...smallConfig, vocab_size: vocab }, 'config.json')

  it('lets a tokenizer pass that fits, and refuses one with ids the model does not have, naming both', async () => {
    const tokenizer = await loadTokenizer(tinyLlamaFolder)
    expect(() => checkVocabulary(tokenizer, config(4096))).not.toThrow()
    expect(() => checkVocabulary(tokenizer, config(5000))).not.toThrow()
    expect(() => checkVocabulary(tokenizer, config(4095))).toThrow(UnsupportedError)
    expect(() => checkVocabulary(tokenizer, config(4095))).toThrow(/ids up to 4095.* has 4095 tokens/)
  })

  it('lets an added padding token beyond the vocabulary pass', async () => {
    const definition = await tinyDefinition()
    definition.added_tokens.push({ ...definition.added_tokens[0], id: 4096, content: '<pad>' })
    const tokenizer = await loadDefinition(definition)
    expect(tokenizer.vocabSize).toBe(4097)
    expect(() => checkVocabulary(tokenizer, config(4096))).not.toThrow()
  })
})

describe('cutting long words', () => {
  it('changes no id, whatever the merges and the text', async () => {
    const letters = ['a', 'b', 'c', '▁', '🦙']
    const merges = fc.array(fc.tuple(fc.nat(), fc.nat()), { maxLength: 12 })
    const words = fc.array(fc.constantFrom(...letters, ' ', 'x'), { minLength: 260, maxLength: 700 })
    await fc.assert(
      fc.asyncProperty(merges, words, async (picks, word) => {
        const definition = bytePairDefinition(letters, picks)
        const text = word.join('')
        const { ids } = new PlainTokenizer(definition, {}).encode(text, { add_special_tokens: false })
        const tokenizer = await loadDefinition(definition)
        expect(Array.from(tokenizer.encode(text))).toEqual(ids)
      }),
      { numRuns: 150 },
    )
  })

  const joined = joinedPairs([
    ['t', 'h'],
    ['th', 'e'],
    ['▁', 'the'],
    ['▁', '▁'],
    ['a', '🦙'],
    ['a🦙', 'b'],
  ])

  it('cuts before each word of a vocabulary in which spaces only begin tokens', () => {
    const always = () => true
    expect([...cutUnjoined('▁the▁▁thea🦙b▁', joined, always)]).toEqual(['▁the', '▁▁the', 'a🦙b', '▁'])
    expect([...cutUnjoined('', joined, always)]).toEqual([])
  })

  it('does not cut beside a letter that its neighbours have a say in', () => {
    expect([...cutUnjoined('the?ab', joined, (letter) => letter !== '?')]).toEqual(['the?a', 'b'])
  })
})

/** A tokenizer without a splitting rule; each pick merges two tokens made before it. */
function bytePairDefinition(letters: readonly string[], picks: readonly (readonly [number, number])[]) {
  const tokens = ['<unk>', ...letters]
  const merges: [string, string][] = []
  for (const [left, right] of picks) {
    const pair: [string, string] = [
      tokens[1 + (left % (tokens.length - 1))],
      tokens[1 + (right % (tokens.length - 1))],
    ]
    if (tokens.includes(pair.join(''))) continue
    merges.push(pair)
    tokens.push(pair.join(''))
  }
  return {
    added_tokens: [],
    normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    model: {
      type: 'BPE',
      unk_token: '<unk>',
      fuse_unk: true,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  }
}

describe('a text of megabytes', () => {
  const text = 'The weights of 12 layers, naïve or not,\n\n  are rounded. '.repeat(40_000)

  it('has the same ids in turns as at once, and lets other work through', async () => {
    const tokenizer = await loadTokenizer(tinyLlamaFolder)
    let turns = 0
    const timer = setInterval(() => turns++, 1)
    const ids = await tokenizer.encodeInTurns(text)
    clearInterval(timer)
    expect(turns).toBeGreaterThan(0)
    expect(ids).toEqual(tokenizer.encode(text))
  })

  it('keeps its ids when another text is encoded meanwhile', async () => {
    const tokenizer = await loadTokenizer(tinyLlamaFolder)
    const other = 'meanwhile, another one. '.repeat(20_000)
    const both = await Promise.all([tokenizer.encodeInTurns(text), tokenizer.encodeInTurns(other)])
    expect(both).toEqual([tokenizer.encode(text), tokenizer.encode(other)])
  })

  it('is left when the signal fires', async () => {
    const tokenizer = await loadTokenizer(tinyLlamaFolder)
    const stop = new AbortController()
    setTimeout(() => stop.abort(), 1)
    await expect(tokenizer.encodeInTurns(text, stop.signal)).rejects.toThrow(AbortedError)
  })
})

it.skipIf(process.platform === 'win32')(
  'a tokenizer.json that is no plain file is refused at once',
  async () => {
    const odd = await mkdtemp(join(tmpdir(), 'gptvq-fifo-'))
    try {
      execFileSync('mkfifo', [join(odd, 'tokenizer.json')])
      await expect(loadTokenizer(odd)).rejects.toThrow(/tokenizer\.json.*file/)
    } finally {
      await rm(odd, { recursive: true })
    }
  },
)

it('a tokenizer.json nested thousands deep is refused', async () => {
  await expect(loadDefinition(`{"model":${'['.repeat(9000)}${']'.repeat(9000)}}`)).rejects.toThrow(
    /tokenizer\.json.*nested/,
  )
})
