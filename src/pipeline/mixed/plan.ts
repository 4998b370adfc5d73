import { requirePositive } from '../../common/check-option.js'
import { OptionError } from '../../common/errors.js'
import type { VqOptions } from '../../gptvq/options.js'
import type { LinearLayer } from '../../model/decoder/linears.js'
import { type LayoutSettings, resolveLayoutOptions } from '../../packing/layout-options.js'
import { type LayerCandidate, layerCandidates } from './candidates.js'

/** What a budget of bits may be spent on. */
export interface BudgetPlan {
  /** For all quantized weights together. */
  readonly budgetBytes: number
  readonly layers: readonly PlannedLayer[]
}

export interface PlannedLayer {
  readonly linear: LinearLayer
  /** A list for each number of bits. */
  readonly candidates: readonly (readonly LayerCandidate[])[]
}

/**
 * The candidates of linear layers, and the bytes that they share.
 *
 * @param options the settings that all layers share
 * @param bpv bits per value over all quantized weights, at most
 * @throws OptionError when the budget is below what the layers take at least, or above what they can make use of
 */
export function planBudget(linears: readonly LinearLayer[], options: VqOptions, bpv: number): BudgetPlan {
  requirePositive('bpv', bpv)
  const settings = resolveLayoutOptions(options)
  const layers = linears.map((linear) => ({
    linear,
    candidates: layerCandidates(linear.rows, linear.cols, settings, bpv),
  }))
  for (const { linear, candidates } of layers) {
    if (candidates.length > 0) continue
    throw new OptionError(
      'vectorDim',
      `${linear.name}: this ${linear.rows} x ${linear.cols} layer is too small for codebooks of vectors of ` +
        `${settings.vectorDim}; use a smaller vectorDim`,
    )
  }
  return { budgetBytes: checkedBudget(layers, settings, bpv), layers }
}

function checkedBudget(layers: readonly PlannedLayer[], { vectorDim }: LayoutSettings, bpv: number): number {
  const weights = layers.reduce((sum, { linear }) => sum + linear.rows * linear.cols, 0)
  const total = (pick: (...bytes: number[]) => number) =>
    layers.reduce((sum, { candidates }) => sum + pick(...candidates.flat().map(({ bytes }) => bytes)), 0)
  // whole bits: 2.2 bits of 25 weights are 55, though 2.2 * 25 in floating point may fall short of it
  const budgetBytes = Math.floor((bpv * weights * (1 + 1e-12)) / 8)
  const [least, most] = [total(Math.min), total(Math.max)]
  const stated = (bytes: number, round: (value: number) => number) => round((8e4 * bytes) / weights) / 1e4
  if (budgetBytes < least) {
    throw new OptionError(
      'bpv',
      `${bpv} cannot be met: with vectorDim ${vectorDim} the layers take ${stated(least, Math.ceil)} at least; ` +
        'raise bpv',
    )
  }
  if (budgetBytes > most) {
    throw new OptionError(
      'bpv',
      `${bpv} is more than the ${stated(most, Math.floor)} that bits 'mixed' can make use of with vectorDim ` +
        `${vectorDim}; lower bpv or vectorDim, or choose a number of bits`,
    )
  }
  return budgetBytes
}
