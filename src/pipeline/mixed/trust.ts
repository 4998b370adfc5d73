import type { LayerCandidate } from './candidates.js'

export interface MeasuredLayer {
  readonly weights: number
  readonly candidates: readonly LayerCandidate[]
  /** Predicted divergence of each candidate. */
  readonly effects: readonly number[]
}

/**
 * Effects to choose by. Each was measured with all other layers in full precision, and what later layers make up for is not
 * in it; the larger the divergence of all together, the less their sum says about it. So the effects are drawn towards
 * those with which all layers would best have the same bits, `share = 1 / (1 + D)`, where `D` is the sum of the effects at
 * the bits of the budget: in nats, so that a model that hardly changes is taken at its word, and of one that loses a nat half
 * of it.
 *
 * @param bpv of the budget
 * @returns in the shape of the candidates
 */
export function trustedEffects(layers: readonly MeasuredLayer[], bpv: number): number[][] {
  const even = layers.map(({ candidates, effects }) => {
    const distance = (i: number) => Math.abs(candidates[i].bpv - bpv)
    return effects[candidates.reduce((best, _, i) => (distance(i) < distance(best) ? i : best), 0)]
  })
  const together = even.reduce((sum, effect) => sum + effect, 0)
  const weights = layers.reduce((sum, layer) => sum + layer.weights, 0)
  const share = 1 / (1 + together)
  return layers.map((layer, i) => {
    const fair = (together * layer.weights) / weights
    const factor = even[i] > 0 ? (fair / even[i]) ** (1 - share) : 1
    return layer.effects.map((effect) => effect * factor)
  })
}
