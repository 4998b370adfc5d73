import type { DenseFeedForward, RoutedFeedForward } from '../../decoder/description.js'
import { linear, type Sizes } from './decoder-parts.js'
import { wholeOr } from './layer-kinds.js'
import type { ConfigReader } from './read-config.js'

/** How many experts there are, how many of them a token goes through, and with what weights. */
export interface Experts {
  /** 0: none, all layers are dense. */
  readonly count: number
  readonly active: number
  readonly sumToOne: boolean
}

/** In all layers together: more than any model has, see the limit of layers. */
const MOST_EXPERTS = 2 ** 17

/**
 * Reads them. Files say `num_experts` or `num_local_experts`, older and newer ones of the same family.
 *
 * @param least 0 for families whose layers may all be dense
 */
export function readExperts(read: ConfigReader, defaults: Experts, least: 0 | 1): Experts {
  const local = read.value('num_local_experts')
  const field = read.value('num_experts') == null && local != null ? 'num_local_experts' : 'num_experts'
  const experts = wholeOr(read, field, defaults.count)
  if (experts < least) read.fail(field, experts, 'a positive whole number')
  const most = Math.floor(MOST_EXPERTS / read.count('num_hidden_layers'))
  if (experts > most) read.fail(field, experts, `at most ${most} experts in each layer`)
  if ((local ?? experts) !== experts) {
    read.fail('num_local_experts', local, `the same as num_experts (${experts})`)
  }
  const active = read.count('num_experts_per_tok', defaults.active)
  if (experts > 0 && active > experts) read.fail('num_experts_per_tok', active, `at most ${experts} experts`)
  return { count: experts, active, sumToOne: read.flag('norm_topk_prob', defaults.sumToOne) }
}

/**
 * Which layers of the Qwen families have experts: every `decoder_sparse_step`-th, less those of `mlp_only_layers`.
 */
export function readSparseLayers(read: ConfigReader, experts: Experts): (index: number) => boolean {
  const step = read.count('decoder_sparse_step', 1)
  const dense = read.indices('mlp_only_layers')
  return (index) => experts.count > 0 && (index + 1) % step === 0 && !dense.includes(index)
}

/** A router with the weights `<name>.gate` and what it sends tokens to. */
export function routedFeedForward(
  prefix: string,
  name: string,
  { hiddenSize }: Sizes,
  { count, active, sumToOne }: Experts,
  expert: (name: string) => DenseFeedForward,
): RoutedFeedForward {
  return {
    kind: 'routed',
    router: linear(prefix, `${name}.gate`, [count, hiddenSize]),
    experts: Array.from({ length: count }, (_, index) => expert(`${name}.experts.${index}`)),
    active,
    sumToOne,
  }
}
