import { UnsupportedError } from '../../common/errors.js'
import type { GgufValue } from '../write-header.js'
import { mergesOfScores } from './merges-of-scores.js'
import { type SplitRule, splitRule, splitRules } from './split-rules.js'
import { TokenKind, type Vocabulary } from './vocabulary.js'

/** What is read of a `tokenizer.json` that `loadTokenizer` accepts. */
export interface TokenizerDefinition {
  readonly added_tokens?: readonly {
    readonly id: number
    readonly content: string
    readonly special?: boolean
  }[]
  readonly normalizer?: Part | null
  readonly pre_tokenizer?: Part | null
  readonly model: {
    readonly type?: string
    readonly unk_token?: string | null
    readonly byte_fallback?: boolean
    readonly ignore_merges?: boolean
    readonly vocab: Readonly<Record<string, number>>
    readonly merges?: readonly (string | readonly [string, string])[]
  }
}

interface Part {
  readonly type: string
  readonly normalizers?: readonly Part[]
  readonly pretokenizers?: readonly Part[]
  readonly [field: string]: unknown
}

/** Metadata, and what will be different in llama.cpp, in words. */
export interface NotedValues {
  readonly values: ReadonlyMap<string, GgufValue>
  readonly notes: readonly string[]
}

/** A vocabulary as metadata, and its tokens by their ids. */
export interface GgufVocabulary extends NotedValues {
  readonly vocabulary: Vocabulary
}

/** What the caller knows better than the file. */
export interface VocabularyOptions {
  /** How errors name the file. */
  readonly where: string
  /** Rows of the embedding: shorter vocabularies are filled up, longer ones cut. */
  readonly vocabSize: number
  /** The name of the rule that cuts text into words, where it is not recognised. */
  readonly preTokenizer?: string | undefined
}

/**
 * The vocabulary of a tokenizer as llama.cpp wants it: byte-level BPE as kind `gpt2`, BPE made of SentencePiece as
 * kind `llama`.
 *
 * @throws UnsupportedError for a tokenizer of another kind
 */
export function vocabularyOfTokenizer(
  definition: TokenizerDefinition,
  options: VocabularyOptions,
): GgufVocabulary {
  const { model } = definition
  const { where } = options
  if (model.type !== undefined && model.type !== 'BPE') {
    throw new UnsupportedError(
      `${where}: a tokenizer of the kind ${model.type} cannot be written to a GGUF file; supported: BPE`,
    )
  }
  const bytes = isByteLevel(definition)
  const { tokens, kinds, cut } = tokensOf(definition, options.vocabSize, bytes)
  const common = new Map<string, GgufValue>([
    ['tokenizer.ggml.model', { kind: 'text', value: bytes ? 'gpt2' : 'llama' }],
    ['tokenizer.ggml.tokens', { kind: 'texts', value: tokens }],
    ['tokenizer.ggml.token_type', { kind: 'i32s', value: kinds }],
  ])
  const { values, notes } = bytes
    ? byteLevelValues(definition, options)
    : sentencePieceValues(definition, tokens, kinds, where)
  const cutNote =
    cut > 0 ? [`${cut} added tokens beyond the model's vocabulary of ${options.vocabSize} are left out`] : []
  return {
    values: new Map([...common, ...values]),
    notes: [...cutNote, ...notes],
    vocabulary: { tokens, kinds },
  }
}

function tokensOf(
  { model, added_tokens: added = [] }: TokenizerDefinition,
  vocabSize: number,
  bytes: boolean,
): { tokens: string[]; kinds: number[]; cut: number } {
  const tokens: string[] = Array.from({ length: vocabSize }, (_, id) => `[PAD${id}]`)
  const kinds: number[] = tokens.map(() => TokenKind.unused)
  const byteToken = /^<0x[0-9A-F]{2}>$/
  for (const [token, id] of Object.entries(model.vocab)) {
    if (id >= vocabSize) continue
    tokens[id] = token
    const isByte = !bytes && model.byte_fallback === true && byteToken.test(token)
    kinds[id] = isByte ? TokenKind.byte : TokenKind.normal
  }
  let cut = 0
  for (const { id, content, special } of added) {
    if (id >= vocabSize) {
      cut++
      continue
    }
    tokens[id] = content
    kinds[id] = special ? TokenKind.control : TokenKind.userDefined
  }
  const unknown = model.unk_token == null ? undefined : model.vocab[model.unk_token]
  if (!bytes && unknown !== undefined && unknown < vocabSize) kinds[unknown] = TokenKind.unknown
  return { tokens, kinds, cut }
}

function pretokenizersOf({ pre_tokenizer: pre }: TokenizerDefinition): readonly Part[] {
  if (pre == null) return []
  return pre.type === 'Sequence' ? (pre.pretokenizers ?? []) : [pre]
}

function normalizersOf({ normalizer }: TokenizerDefinition): readonly Part[] {
  if (normalizer == null) return []
  return normalizer.type === 'Sequence' ? (normalizer.normalizers ?? []) : [normalizer]
}

function isByteLevel(definition: TokenizerDefinition): boolean {
  return pretokenizersOf(definition).some(({ type }) => type === 'ByteLevel')
}

function mergesOf({ model }: TokenizerDefinition): readonly (readonly [string, string])[] {
  return (model.merges ?? []).flatMap((merge) => {
    if (typeof merge !== 'string') return [merge]
    if (merge.startsWith('#version')) return []
    const [left, right] = merge.split(' ')
    return [[left, right] as const]
  })
}

function byteLevelValues(definition: TokenizerDefinition, options: VocabularyOptions): NotedValues {
  const byteLevel = pretokenizersOf(definition).find(({ type }) => type === 'ByteLevel')
  const pre = options.preTokenizer ?? recognised(definition, options.where)
  return {
    values: new Map<string, GgufValue>([
      ['tokenizer.ggml.pre', { kind: 'text', value: pre }],
      ['tokenizer.ggml.merges', { kind: 'texts', value: mergesOf(definition).map((pair) => pair.join(' ')) }],
      // what is left out means no in llama.cpp, and yes in the tokenizer.json
      ['tokenizer.ggml.add_space_prefix', { kind: 'bool', value: byteLevel?.add_prefix_space === true }],
    ]),
    notes: [],
  }
}

/** The name of the rule by which a tokenizer cuts words. */
function recognised(definition: TokenizerDefinition, where: string): string {
  const parts = pretokenizersOf(definition)
  const byteLevel = parts.find(({ type }) => type === 'ByteLevel')
  const splits = parts.filter((part) => part !== byteLevel)
  const regex = (byteLevel?.use_regex ?? true) === true
  const composed = normalizersOf(definition).some(({ type }) => type === 'NFC')
  const ignores = definition.model.ignore_merges === true
  const fits = (rule: SplitRule, exactly: boolean) =>
    rule.byteLevelSplits === regex &&
    rule.ignoreMerges === ignores &&
    (!exactly || (rule.normalizer !== null) === composed) &&
    sameSplits(rule.splits, splits)
  const found = splitRules.find((rule) => fits(rule, true)) ?? splitRules.find((rule) => fits(rule, false))
  if (found !== undefined) return found.names[0]
  throw new UnsupportedError(
    `${where}: its rule of cutting text into words (pre_tokenizer) is none that is known by a name of llama.cpp. ` +
      'If you know its name, give it with --pre-tokenizer (option preTokenizer); known are ' +
      `${splitRules.map(({ names }) => names[0]).join(', ')}`,
  )
}

function sameSplits(known: readonly Readonly<Record<string, unknown>>[], found: readonly Part[]): boolean {
  const key = (split: Readonly<Record<string, unknown>>) =>
    split.type === 'Split'
      ? JSON.stringify([split.type, split.pattern, split.behavior, split.invert ?? false])
      : JSON.stringify([split.type, split.individual_digits ?? false])
  return known.length === found.length && known.every((split, i) => key(split) === key(found[i]))
}

/** Refused before anything is written: a name that is not known would be read by none of our rules. */
export function requireKnownRule(name: string | undefined): void {
  if (name === undefined || splitRule(name) !== undefined) return
  throw new UnsupportedError(
    `the rule ${JSON.stringify(name)} of cutting text into words is not known; known are ` +
      splitRules.flatMap(({ names }) => names).join(', '),
  )
}

function sentencePieceValues(
  definition: TokenizerDefinition,
  tokens: readonly string[],
  kinds: readonly number[],
  where: string,
): NotedValues {
  const merges = mergesOf(definition)
  const normalizers = normalizersOf(definition)
  const metaspace = pretokenizersOf(definition).find(({ type }) => type === 'Metaspace')
  const spaces = normalizers.some(({ type, content }) => type === 'Replace' && content === '▁')
  if (!spaces && metaspace === undefined) {
    throw new UnsupportedError(
      `${where}: is neither a byte-level BPE nor one made of SentencePiece (spaces as ▁); others cannot be written to a GGUF file`,
    )
  }
  const scheme = metaspace?.prepend_scheme ?? (metaspace?.add_prefix_space === false ? 'never' : 'always')
  const prefixed =
    normalizers.some(({ type, prepend }) => type === 'Prepend' && prepend === '▁') ||
    (metaspace !== undefined && scheme !== 'never')
  const scores = scoresOf(merges, tokens, kinds)
  const mergeable = (id: number) => kinds[id] === TokenKind.normal || kinds[id] === TokenKind.userDefined
  const strange = strangers(merges, mergesOfScores(tokens, scores, mergeable))
  return {
    values: new Map<string, GgufValue>([
      ['tokenizer.ggml.pre', { kind: 'text', value: 'default' }],
      ['tokenizer.ggml.scores', { kind: 'f32s', value: scores }],
      ['tokenizer.ggml.add_space_prefix', { kind: 'bool', value: prefixed }],
    ]),
    notes:
      strange === 0
        ? []
        : [
            `${strange} of ${merges.length} merges of the tokenizer cannot be told by scores: rare words may be cut otherwise`,
          ],
  }
}

/** A token that merges make has the rank of the first of them, negated; what none makes comes after all of them. */
function scoresOf(
  merges: readonly (readonly [string, string])[],
  tokens: readonly string[],
  kinds: readonly number[],
): number[] {
  const ranks = new Map<string, number>()
  for (const [rank, [left, right]] of merges.entries()) {
    if (!ranks.has(left + right)) ranks.set(left + right, rank)
  }
  return tokens.map((token, id) => {
    if (kinds[id] !== TokenKind.normal && kinds[id] !== TokenKind.userDefined) return 0
    return -(ranks.get(token) ?? merges.length)
  })
}

/** How many pairs only one of two lists of merges has. */
function strangers(
  a: readonly (readonly [string, string])[],
  b: readonly (readonly [string, string])[],
): number {
  const known = new Set(a.map((pair) => pair.join(' ')))
  let shared = 0
  for (const pair of b) if (known.has(pair.join(' '))) shared++
  return known.size - shared + (b.length - shared)
}
