import { UnsupportedError } from '../../common/errors.js'
import type { GgufMetadata } from '../metadata.js'
import { endsOfGguf, isKnownEnd } from './end-tokens.js'
import { mergesOfScores } from './merges-of-scores.js'
import { type SplitRule, splitRule, splitRules } from './split-rules.js'
import { readVocabulary, TokenKind, type Vocabulary } from './vocabulary.js'

/** The files of a model folder that come from a GGUF file's tokenizer, by name. */
export type TokenizerFiles = ReadonlyMap<string, string>

/**
 * Rebuilds `tokenizer.json`, `tokenizer_config.json` and `generation_config.json`. Files without a tokenizer give none.
 *
 * @throws UnsupportedError for a kind of tokenizer that is not read, naming it
 * @throws CheckpointError for metadata that is missing or contradicts itself
 */
export function tokenizerOfGguf(metadata: GgufMetadata): TokenizerFiles {
  const model = metadata.optionalText('tokenizer.ggml.model') ?? 'no_vocab'
  if (model === 'no_vocab' || model === 'none') return new Map()
  const vocabulary = readVocabulary(metadata)
  const json = (value: unknown) => `${JSON.stringify(value, null, 1)}\n`
  return new Map([
    ['tokenizer.json', json(definitionOf(metadata, model, vocabulary))],
    ['tokenizer_config.json', json(settingsOf(metadata, vocabulary))],
    ['generation_config.json', json(specialIds(metadata))],
  ])
}

function definitionOf(metadata: GgufMetadata, model: string, vocabulary: Vocabulary): object {
  const common = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: addedTokens(vocabulary),
    post_processor: addsBos(metadata) ? beginsWith(bosOf(metadata, vocabulary.tokens)) : null,
  }
  if (model === 'gpt2') return { ...common, ...byteLevelBpe(metadata, vocabulary) }
  if (model === 'llama') return { ...common, ...sentencePieceBpe(metadata, vocabulary) }
  throw new UnsupportedError(
    `${metadata.where}: a tokenizer of the kind ${JSON.stringify(model)} is not read; supported: gpt2 (byte-level BPE) and ` +
      'llama (SentencePiece BPE). Put the model’s own tokenizer.json into a folder with its weights, and use that',
  )
}

/** What a text is searched for first: what ends a turn is one token there whatever kind the file says. */
function addedTokens(vocabulary: Vocabulary): object[] {
  const { tokens, kinds } = vocabulary
  return tokens.flatMap((content, id) => {
    const special =
      kinds[id] === TokenKind.control || kinds[id] === TokenKind.unknown || isKnownEnd(vocabulary, id)
    if (!special && kinds[id] !== TokenKind.userDefined) return []
    return [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special }]
  })
}

function byteLevelBpe(metadata: GgufMetadata, { tokens }: Vocabulary): object {
  const { splits, byteLevelSplits, normalizer, ignoreMerges } = readRule(metadata)
  const byteLevel = {
    type: 'ByteLevel',
    add_prefix_space: metadata.flag('tokenizer.ggml.add_space_prefix', false),
    trim_offsets: false,
    use_regex: byteLevelSplits,
  }
  return {
    normalizer,
    pre_tokenizer: { type: 'Sequence', pretokenizers: [...splits, byteLevel] },
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: ignoreMerges,
      vocab: vocabOf(tokens),
      merges: metadata.texts('tokenizer.ggml.merges').map(splitMerge),
    },
  }
}

/** Neither half of a merge has a space: byte-level letters stand for it. A half may begin with anything else. */
function splitMerge(merge: string): [string, string] {
  const at = merge.indexOf(' ', 1)
  return [merge.slice(0, at), merge.slice(at + 1)]
}

function readRule(metadata: GgufMetadata): SplitRule {
  const name = metadata.optionalText('tokenizer.ggml.pre')
  const rule = name === undefined ? undefined : splitRule(name)
  if (rule !== undefined) return rule
  throw new UnsupportedError(
    `${metadata.where}: ${name === undefined ? 'has no' : `has the unknown value ${JSON.stringify(name)} of`} "tokenizer.ggml.pre", ` +
      `the rule by which text is cut into words; supported: ${splitRules.flatMap(({ names }) => names).join(', ')}. ` +
      'Put the model’s own tokenizer.json into a folder with its weights, and use that',
  )
}

function sentencePieceBpe(metadata: GgufMetadata, { tokens, kinds }: Vocabulary): object {
  const scores = metadata.numbers('tokenizer.ggml.scores')
  const prefixed = metadata.flag('tokenizer.ggml.add_space_prefix', true)
  const space = { type: 'Replace', pattern: { String: ' ' }, content: '▁' }
  const back = { type: 'Replace', pattern: { String: '▁' }, content: ' ' }
  const unknown = kinds.indexOf(TokenKind.unknown)
  const mergeable = (id: number) => kinds[id] === TokenKind.normal || kinds[id] === TokenKind.userDefined
  return {
    normalizer: prefixed
      ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, space] }
      : space,
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        back,
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prefixed ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: unknown < 0 ? null : tokens[unknown],
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: kinds.includes(TokenKind.byte),
      ignore_merges: false,
      vocab: vocabOf(tokens),
      merges: mergesOfScores(tokens, scores, mergeable),
    },
  }
}

function vocabOf(tokens: readonly string[]): Record<string, number> {
  // without a prototype, so that a token named like one of its members is a token
  const vocab: Record<string, number> = Object.create(null)
  for (const [id, token] of tokens.entries()) vocab[token] ??= id
  return vocab
}

function tokenOf(metadata: GgufMetadata, tokens: readonly string[], name: string): string | undefined {
  const id = metadata.optionalNumber(`tokenizer.ggml.${name}_token_id`)
  return id === undefined ? undefined : tokens[id]
}

function bosOf(metadata: GgufMetadata, tokens: readonly string[]): { id: number; token: string } {
  const id = metadata.number('tokenizer.ggml.bos_token_id')
  return { id, token: tokens[id] }
}

/** Whether a text begins with the token for that. Files that do not say mean what is usual for their tokenizer. */
function addsBos(metadata: GgufMetadata): boolean {
  if (!metadata.has('tokenizer.ggml.bos_token_id')) return false
  const rule = splitRule(metadata.optionalText('tokenizer.ggml.pre') ?? '')
  const usual = metadata.text('tokenizer.ggml.model') === 'llama' || rule?.addsBos === true
  return metadata.flag('tokenizer.ggml.add_bos_token', usual)
}

function beginsWith({ id, token }: { readonly id: number; readonly token: string }): object {
  const special = { SpecialToken: { id: token, type_id: 0 } }
  const text = (name: string, type: number) => ({ Sequence: { id: name, type_id: type } })
  return {
    type: 'TemplateProcessing',
    single: [special, text('A', 0)],
    pair: [special, text('A', 0), text('B', 1)],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  }
}

function settingsOf(metadata: GgufMetadata, { tokens }: Vocabulary): object {
  const named = { bos: 'bos_token', eos: 'eos_token', unknown: 'unk_token', padding: 'pad_token' }
  const settings: Record<string, unknown> = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    clean_up_tokenization_spaces: false,
    add_bos_token: addsBos(metadata),
  }
  for (const [key, field] of Object.entries(named)) {
    const token = tokenOf(metadata, tokens, key)
    if (token !== undefined) settings[field] = token
  }
  const template = metadata.optionalText('tokenizer.chat_template')
  if (template !== undefined) settings.chat_template = template
  return settings
}

/** The ids of special tokens, as `config.json` and `generation_config.json` have them. */
export function specialIds(metadata: GgufMetadata): Record<string, unknown> {
  const id = (name: string) => metadata.optionalNumber(`tokenizer.ggml.${name}_token_id`)
  const ends = endsOfGguf(metadata)
  return {
    ...(id('bos') !== undefined && { bos_token_id: id('bos') }),
    ...(ends.length > 0 && { eos_token_id: ends.length === 1 ? ends[0] : ends }),
    ...(id('padding') !== undefined && { pad_token_id: id('padding') }),
  }
}
