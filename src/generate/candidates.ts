/** Which tokens may be drawn; see `GenerateOptions`. */
export interface Filters {
  /** Above 0. */
  readonly temperature: number
  /** 0: all. */
  readonly topK: number
  /** 0: only the likeliest, 1: all. */
  readonly topP: number
  /** 0: all. */
  readonly minP: number
}

/** Tokens that may be drawn, the likeliest first (the first of equal ones), with weights proportional to their probabilities. */
export interface Candidates {
  readonly tokens: number[]
  readonly weights: number[]
}

/** Whether any token may be drawn. */
export function keepsAll({ topK, topP, minP }: Filters, vocabSize: number): boolean {
  return (topK === 0 || topK >= vocabSize) && topP === 1 && minP === 0
}

/**
 * The `topK` likeliest tokens; of these the fewest whose probabilities, as shares of theirs, sum to `topP`; of these
 * the ones at least `minP` times as likely as the likeliest.
 *
 * Looks at the tokens by tiers of their logits below the largest, so that seldom more than a few are sorted.
 */
export function candidatesOf(logits: Float32Array, filters: Filters): Candidates {
  const { temperature, minP } = filters
  const largest = logits.reduce((most, logit) => Math.max(most, logit), Number.NEGATIVE_INFINITY)
  const weightOf = (logit: number) => Math.exp((logit - largest) / temperature)
  const total = filters.topP < 1 && filters.topK === 0 ? sumOf(logits, weightOf) : 0
  for (let depth = 8; ; depth *= 2) {
    const all = depth > 2000
    const tokens = tokensFrom(logits, all ? Number.NEGATIVE_INFINITY : largest - depth * temperature)
    tokens.sort((a, b) => logits[b] - logits[a] || a - b)
    const weights = tokens.map((token) => weightOf(logits[token]))
    const byMinP = minP > 0 && filters.topP === 1 && -Math.log(minP) < depth
    const complete = all || byMinP || tokens.length === logits.length
    const kept = keptOf(weights, filters, total, complete)
    if (kept !== undefined) return { tokens: tokens.slice(0, kept), weights: weights.slice(0, kept) }
  }
}

/** How many of the likeliest tokens are kept; undefined when that depends on tokens that are not among them. */
function keptOf(
  weights: readonly number[],
  { topK, topP, minP }: Filters,
  total: number,
  complete: boolean,
): number | undefined {
  if (!complete && topK > weights.length) return undefined
  let kept = topK === 0 ? weights.length : Math.min(topK, weights.length)
  if (topP < 1) {
    const mass = topK === 0 ? total : weights.slice(0, kept).reduce((sum, weight) => sum + weight, 0)
    const nucleus = countUpTo(weights, kept, topP * mass)
    if (nucleus === undefined && !complete && topK === 0) return undefined
    kept = nucleus ?? kept
  } else if (topK === 0 && !complete) return undefined
  const below = weights.findIndex((weight) => weight < minP)
  return below < 0 ? kept : Math.min(kept, below)
}

/** How many of the first `count` weights it takes to sum to `share`; undefined when they do not. */
function countUpTo(weights: readonly number[], count: number, share: number): number | undefined {
  let sum = 0
  for (let i = 0; i < count; i++) {
    sum += weights[i]
    if (sum >= share) return i + 1
  }
  return undefined
}

function tokensFrom(logits: Float32Array, least: number): number[] {
  const tokens: number[] = []
  for (let token = 0; token < logits.length; token++) if (logits[token] >= least) tokens.push(token)
  return tokens
}

function sumOf(logits: Float32Array, weightOf: (logit: number) => number): number {
  let sum = 0
  for (let token = 0; token < logits.length; token++) sum += weightOf(logits[token])
  return sum
}

/** The `count` tokens with the largest logits, the largest first, of equal ones the first. */
export function likeliest(logits: Float32Array, count: number): number[] {
  const places: number[] = []
  for (let token = 0; token < logits.length; token++) {
    if (places.length === count && logits[token] <= logits[places[count - 1]]) continue
    let at = places.length
    while (at > 0 && logits[places[at - 1]] < logits[token]) at--
    places.splice(at, 0, token)
    if (places.length > count) places.pop()
  }
  return places
}
