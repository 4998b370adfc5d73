import { pacer } from '../../common/event-loop.js'
import type { VqOptions } from '../../gptvq/options.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import type { LinearLayer } from '../../model/decoder/linears.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import { evenly } from '../../train/loop/sequences.js'
import type { TokenWeighting } from '../calibrate/statistics/token-weights.js'
import type { PartProgress } from '../progress.js'
import { allocate } from './allocation.js'
import type { LayerBits } from './options.js'
import { type PlannedLayer, planBudget } from './plan.js'
import type { LayerShare, MixedReport } from './report.js'
import { measureSensitivity, type SensitivityState } from './sensitivity.js'
import { tryCandidates } from './trials.js'
import { trustedEffects } from './trust.js'

/** Tokens of a piece at most. In shorter ones little attention is paid to far tokens, and too little to how keys and values are kept. */
const LONGEST = 512
/** Tokens that the Hessians of the trials are made of, at most. */
export const TRIAL_TOKENS = 4096
/** Tokens that predictions are compared on. Eight times as many take longer and choose no better. */
export const PROBE_TOKENS = 512

export interface ShareBudgetInput {
  readonly source: WeightSource
  readonly config: DecoderDescription
  /** The layers that share the budget. */
  readonly linears: readonly LinearLayer[]
  /** Token ids, all of one length. */
  readonly sequences: readonly Int32Array[]
  /** The settings that all layers share. */
  readonly options: VqOptions
  /** The budget: bits per value over all quantized weights, at most. */
  readonly bpv: number
  readonly tokenWeights: TokenWeighting
  readonly onProgress: PartProgress
  readonly signal: AbortSignal | undefined
  /** Where an earlier measurement stopped. */
  readonly begun?: SensitivityState | undefined
  /** Is given where the measurement of sensitivities stands, block by block. */
  readonly onBlock?: (state: SensitivityState) => Promise<void>
}

/** A budget shared out. */
export interface SharedBudget {
  /** Options by the name of the weight. */
  readonly layers: ReadonlyMap<string, LayerBits>
  readonly report: MixedReport
}

/**
 * Shares a budget of bits out among the linear layers of a model: to each the bits and the group size with which the
 * sum of the layers' predicted divergences is least (see `measureSensitivity`), all stored bytes counted.
 *
 * Runs on the started engine. The same input gives the same choice.
 *
 * @returns options by the name of the weight, and the report
 * @throws OptionError when the budget cannot be met or used up
 * @throws NumericError naming the layer when an activation or an effect is NaN or infinite
 * @throws AbortedError when `signal` fires
 */
export async function shareBudget(input: ShareBudgetInput): Promise<SharedBudget> {
  const { source, config, linears, options, bpv, onProgress, signal } = input
  const { budgetBytes, layers: planned } = planBudget(linears, options, bpv)
  const candidates = new Map(planned.map(({ linear, candidates }) => [linear.name, candidates]))
  const { sequences, probes } = choosePieces(input.sequences)
  const effects = await measureSensitivity({
    model: { source, config },
    sequences,
    probes,
    tokenWeights: input.tokenWeights,
    pause: pacer(signal),
    begun: input.begun,
    onBlock: input.onBlock,
    onProgress: (done) => onProgress('measuring the sensitivity of layers', done),
    isTried: (name) => candidates.has(name),
    tryLayer: ({ name }, weight, hessian, factors) =>
      tryCandidates(
        weight,
        hessian,
        candidates.get(name)!,
        { ...options, bpv },
        { name, factors, ...(signal && { signal }) },
      ),
  })
  const shares = chooseShares(planned, effects, { budgetBytes, bpv })
  const sum = (pick: (share: LayerShare) => number) => shares.reduce((total, share) => total + pick(share), 0)
  const report = {
    bpv,
    layers: shares,
    bytes: { budget: budgetBytes, used: sum(({ bytes }) => bytes) },
    divergence: sum(({ divergence }) => divergence),
    sequences: { count: probes.length, length: probes[0].length },
  }
  // of a trellis, bits per value say all; its bits stay those that its codebook goes by
  const layers = shares.map(({ bits, bpv }, i) => {
    return [planned[i].linear.name, options.trellisBits ? { bpv } : { bits, bpv }] as const
  })
  return { layers: new Map(layers), report }
}

/** Pieces of the calibration sequences: for the Hessians of trials, and others to compare predictions on. */
export interface ChosenPieces {
  readonly sequences: readonly Int32Array[]
  readonly probes: readonly Int32Array[]
}

/** Evenly chosen pieces: few to compare predictions on, for each layer runs them through half of the model. */
export function choosePieces(sequences: readonly Int32Array[]): ChosenPieces {
  const length = Math.min(LONGEST, sequences[0].length)
  const pieces = sequences.flatMap((sequence) =>
    Array.from({ length: Math.floor(sequence.length / length) }, (_, i) =>
      sequence.subarray(i * length, (i + 1) * length),
    ),
  )
  const probeCount = Math.round(PROBE_TOKENS / length)
  const chosen = evenly(pieces, Math.ceil(TRIAL_TOKENS / length) + probeCount)
  // of little text no more than a third is set aside; of a single piece nothing can be
  const probes = evenly(chosen, Math.min(probeCount, Math.max(1, Math.floor(chosen.length / 3))))
  const others = chosen.filter((piece) => !probes.includes(piece))
  return { sequences: others.length > 0 ? others : chosen, probes }
}

function chooseShares(
  planned: readonly PlannedLayer[],
  effects: ReadonlyMap<string, readonly (readonly number[])[]>,
  { budgetBytes, bpv }: { readonly budgetBytes: number; readonly bpv: number },
): LayerShare[] {
  const layers = planned.map(({ linear, candidates }) => ({
    weights: linear.rows * linear.cols,
    candidates: candidates.flat(),
    effects: effects.get(linear.name)!.flat(),
  }))
  const trusted = trustedEffects(layers, bpv)
  const choices = layers.map(({ candidates }, i) =>
    candidates.map(({ bytes }, j) => ({ bytes, effect: trusted[i][j] })),
  )
  const chosen = allocate(choices, budgetBytes)!
  return planned.map(({ linear }, i) => {
    const { bits, bpv, bytes } = layers[i].candidates[chosen[i]]
    const divergence = layers[i].effects[chosen[i]]
    return { name: linear.name.replace(/\.weight$/, ''), bits, bpv, bytes, divergence }
  })
}
