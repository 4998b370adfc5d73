/** How a byte-level tokenizer cuts text into words, under the names that llama.cpp gives it (`tokenizer.ggml.pre`). */
export interface SplitRule {
  /** The first is written. */
  readonly names: readonly string[]
  /** Pre-tokenizers of a tokenizer.json, in order; a ByteLevel follows. */
  readonly splits: readonly Readonly<Record<string, unknown>>[]
  /** Whether the ByteLevel splits by the rule of GPT-2. */
  readonly byteLevelSplits: boolean
  /** The normalizer that tokenizers of this rule have. */
  readonly normalizer: Readonly<Record<string, unknown>> | null
  /** A word that is a token is not merged. */
  readonly ignoreMerges: boolean
  /** A text begins with the token for that, unless a file says otherwise. */
  readonly addsBos: boolean
}

const byPattern = (pattern: string) => [
  { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false },
]
const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
const rest = '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+'
const cl100k = (digits: string) =>
  `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${rest}`
const upper = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]'
const lower = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]'
const cased = (ending: string, digits: string) =>
  `[^\\r\\n\\p{L}\\p{N}]?${upper}*${lower}+${ending}|[^\\r\\n\\p{L}\\p{N}]?${upper}+${lower}*${ending}|` +
  `\\p{N}${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${rest}`

const rule = (
  names: readonly string[],
  splits: SplitRule['splits'],
  traits: Partial<Omit<SplitRule, 'names' | 'splits'>> = {},
): SplitRule => ({
  names,
  splits,
  byteLevelSplits: false,
  normalizer: null,
  ignoreMerges: false,
  addsBos: false,
  ...traits,
})

const byGpt2 = { byteLevelSplits: true } as const

/** The rules that are read and written. */
export const splitRules: readonly SplitRule[] = [
  rule(
    ['gpt-2', 'phi-2', 'jina-es', 'jina-de', 'gigachat', 'jina-v2-es', 'jina-v2-de', 'mellum'],
    [],
    byGpt2,
  ),
  rule(['olmo'], [], { ...byGpt2, normalizer: { type: 'NFC' } }),
  rule(
    ['smollm', 'starcoder', 'refact', 'command-r', 'codeshell', 'exaone', 'minerva-7b'],
    [{ type: 'Digits', individual_digits: true }],
    byGpt2,
  ),
  rule(['llama-bpe', 'llama3', 'llama-v3', 'falcon3', 'pixtral'], byPattern(cl100k('{1,3}')), {
    ignoreMerges: true,
    addsBos: true,
  }),
  rule(['dbrx', 'smaug-bpe'], byPattern(cl100k('{1,3}'))),
  rule(['qwen2', 'deepseek-r1-qwen', 'megrez', 'kormo'], byPattern(cl100k('')), {
    normalizer: { type: 'NFC' },
  }),
  rule(['tekken'], byPattern(cased('', '')), { ignoreMerges: true, addsBos: true }),
  rule(['gpt-4o', 'llama4'], byPattern(cased(`${contractions}?`, '{1,3}'))),
]

/** The rule of this name. */
export function splitRule(name: string): SplitRule | undefined {
  return splitRules.find(({ names }) => names.includes(name))
}
