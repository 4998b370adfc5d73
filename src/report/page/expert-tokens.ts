import { formatNumber } from '../drawing/text.js'

/** How the calibration tokens fell on the experts of a model. */
export interface ExpertTokens {
  /** How many experts there are in all blocks. */
  readonly experts: number
  /** The expert that saw fewest. */
  readonly fewest: {
    /** E.g. `'model.layers.3.mlp.experts.7'`. */
    readonly name: string
    /** How many it saw. */
    readonly tokens: number
  }
  /** Experts that saw none. */
  readonly unseen: number
  /** Mean share of the Hessians of their layers that comes from tokens routed elsewhere. */
  readonly pooled: number
}

/** What is known of a layer. */
interface SeenLayer {
  readonly name: string
  readonly tokens: number | null
  readonly pooled: number | null
}

/** Counts the tokens of all experts; undefined where there are none, or the method uses no calibration. */
export function expertTokens(layers: readonly SeenLayer[]): ExpertTokens | undefined {
  const seen = new Map<string, number>()
  const shares: number[] = []
  for (const { name, tokens, pooled } of layers) {
    const [, expert] = /^(.*\.experts\.\d+)\./.exec(name) ?? []
    if (expert === undefined || tokens === null) continue
    seen.set(expert, tokens)
    shares.push(pooled ?? 0)
  }
  if (seen.size === 0) return undefined
  const [name, tokens] = [...seen].reduce((least, expert) => (expert[1] < least[1] ? expert : least))
  return {
    experts: seen.size,
    fewest: { name, tokens },
    unseen: [...seen.values()].filter((tokens) => tokens === 0).length,
    pooled: shares.reduce((sum, share) => sum + share, 0) / shares.length,
  }
}

/** The same in a few words. */
export function describeExpertTokens({ experts, fewest, unseen, pooled }: ExpertTokens): string {
  const none = `${unseen} of ${experts} saw none`
  return `fewest tokens ${fewest.tokens} (${fewest.name}), ${none}, pooled share ${formatNumber(pooled)} on average`
}
