import { NumericError } from '../../common/errors.js'
import type { Pause } from '../../common/event-loop.js'
import { diagonalMatrix, type Matrix, matrix } from '../../common/matrix.js'
import { hessianEnergy } from '../../gptvq/reconstruction-error.js'
import { type SharedFactors, shareFactors } from '../../hessian/inverse-factor.js'
import { type Block, loadedWeight } from '../../model/decoder/block.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { openEmbedding } from '../../model/decoder/embedding.js'
import { type Head, openHead } from '../../model/decoder/head.js'
import { isExpert, linearLayers } from '../../model/decoder/linears.js'
import { blockStages } from '../../model/decoder/stages.js'
import { readTensor, type WeightSource } from '../../model/decoder/weights.js'
import { type Divergences, openDivergences } from '../../model/passes/divergences.js'
import { forwardBlocks, type PassModel, withBlock } from '../../train/loop/passes.js'
import { joinTokens } from '../../train/loop/run-training.js'
import { hessianGroups, type TokenWeighting } from '../calibrate/statistics/token-weights.js'
import { type LayerRatios, predictEffects } from './effects.js'
import { divergencesOf } from './probe.js'
import { type GroupInputs, stageInputs } from './stage-inputs.js'
import type { LayerTrials } from './trials.js'
import { type TriedLayer, type Variant, variantsOf } from './variants.js'

export interface SensitivityInput {
  readonly model: PassModel
  /** Token ids, all of one length: what layers read on them makes the Hessians of the trials. */
  readonly sequences: readonly Int32Array[]
  readonly tokenWeights: TokenWeighting
  /** Token ids, all of one length: predictions on them are compared. */
  readonly probes: readonly Int32Array[]
  /** Whether a layer is to be measured, by the name of its weight. */
  readonly isTried: (name: string) => boolean
  /** Quantizes a layer for trial, given its Hessian on the sequences. */
  readonly tryLayer: (
    linear: { readonly name: string },
    weight: Matrix,
    hessian: Matrix,
    factors: SharedFactors,
  ) => Promise<LayerTrials>
  readonly pause: Pause
  /** Called with the share of the work done, 0 to 1. */
  readonly onProgress: (done: number) => void
  /** Where an earlier measurement of the same stopped. */
  readonly begun?: SensitivityState | undefined
  /** Is given where the measurement stands, block by block. */
  readonly onBlock?: ((state: SensitivityState) => Promise<void>) | undefined
}

/** Where a measurement stands: it goes from the first block to the last. */
export interface SensitivityState {
  /** The block that is next. */
  readonly next: number
  /** By the name of the weight, in the order they were measured. */
  readonly measured: ReadonlyMap<string, LayerRatios>
}

/** A head of more bytes in float32 stays as it is stored, at half of them, though products take longer. */
const LARGE_HEAD_BYTES = 2 ** 29

/**
 * How far the model's predictions move when one linear layer is quantized: the mean KL(full || quantized) in nats per
 * token, for each candidate of each layer.
 *
 * It is measured: the layer's trial takes the place of its weight, the probes run through the rest of the model, and
 * their predictions are compared with the full model's. All layers see the same tokens, so that what is peculiar to these
 * cancels between layers. The experts of a block are changed together, and share what that does by the loss that each
 * adds to its own outputs. Candidates that were not tried follow by their errors, see {@link predictEffects}.
 *
 * Memory holds the states between two blocks, the trials of one block, the head, and what the full model predicts.
 *
 * @returns by the name of the weight, in the shape of the trials' errors
 * @throws NumericError naming the layer when a number is NaN or infinite
 */
export async function measureSensitivity(input: SensitivityInput): Promise<Map<string, number[][]>> {
  const { model, pause, onProgress, begun, onBlock } = input
  const { source, config } = model
  const blocks = config.blocks.length
  const measured = new Map(begun?.measured)
  const start = begun?.next ?? 0
  const embed = await openEmbedding(source, config)
  const before = { source, config: { ...config, blocks: config.blocks.slice(0, start) } }
  const statesOf = async (sequences: readonly Int32Array[]) =>
    forwardBlocks(before, await embed(joinTokens(sequences)), sequences[0].length, pause)
  let states = await statesOf(input.sequences)
  let probing = await statesOf(input.probes)
  const head = await openHeldHead(source, config)
  try {
    const predictions = await openPredictions(input, probing, start, head)
    try {
      for (let index = start; index < blocks; index++) {
        await withBlock(model, index, async (block) => {
          const seen = { length: input.sequences[0].length, weighting: input.tokenWeights }
          const { inputs, output } = await stageInputs(block, config, states, seen, pause)
          const tries = await tryBlock(input, block, inputs)
          const variants = variantsOf(config.blocks[index], tries)
          const probe = { states: probing, length: input.probes[0].length, predictions }
          const divergences = await divergencesOf(model, index, block, variants, probe, pause)
          for (const [name, ratios] of ratiosOf(variants, divergences.of, tries)) measured.set(name, ratios)
          states = output
          probing = divergences.output
        })
        await onBlock?.({ next: index + 1, measured })
        onProgress(workDone(index + 1, blocks))
      }
    } finally {
      predictions.dispose()
    }
  } finally {
    head.dispose()
  }
  const names = config.blocks.flatMap((_, index) => linearLayers(config, index).map(({ name }) => name))
  const inOrder = names.filter((name) => measured.has(name))
  const effects = predictEffects(inOrder.map((name) => measured.get(name)!))
  return new Map(inOrder.map((name, i) => [name, effects[i]]))
}

/** The head, for many uses. */
export function openHeldHead(source: WeightSource, config: DecoderDescription): Promise<Head> {
  const keepsPacked = 4 * config.vocabSize * config.hiddenSize > LARGE_HEAD_BYTES
  return openHead(source, config, { holds: true, keepsPacked })
}

/** What the full model predicts of the probes. @param states of them at block `index` */
async function openPredictions(
  { model: { source, config }, probes, pause }: SensitivityInput,
  states: Float32Array,
  index: number,
  head: Head,
): Promise<Divergences> {
  const rest = { source, config: { ...config, blocks: config.blocks.slice(index) } }
  return openDivergences(head, await forwardBlocks(rest, states, probes[0].length, pause))
}

/** Half of the work is the same for all blocks; the other half is to run what lies behind them. */
function workDone(done: number, blocks: number): number {
  const share = done / blocks
  return share / 2 + (1 - (1 - share) ** 2) / 2
}

/** Quantizes the layers of a block for trial. */
async function tryBlock(
  { model, tokenWeights, isTried, tryLayer, pause }: SensitivityInput,
  block: Block,
  inputs: GroupInputs,
): Promise<TriedLayer[]> {
  const tries: TriedLayer[] = []
  const groups = blockStages(block.description).flatMap((stage) => hessianGroups(stage, tokenWeights))
  for (const { linears } of groups) {
    if (linears.length === 0) continue
    const sum = inputs.get(linears[0].kind)
    const hessian = sum?.hessian()
    inputs.delete(linears[0].kind)
    const factors = shareFactors()
    for (const linear of linears) {
      const { kind, module, rows, cols } = linear
      const name = `${module}.weight`
      if (!isTried(name)) continue
      await pause()
      const values =
        loadedWeight(block, kind) ??
        (await readTensor(model.source, name, [rows, cols], 'the shape of the layer'))
      const weight = matrix(rows, cols, values)
      // an expert without tokens does no harm, whatever it is quantized to
      const trials = await tryLayer({ name }, weight, hessian ?? diagonalMatrix(cols, 1), factors)
      const losses = isExpert(block.description, linear)
        ? trials.trials.map(({ change }) =>
            sum && hessian ? sum.tokens * hessianEnergy(matrix(rows, cols, change), hessian) : 0,
          )
        : []
      tries.push({ kind, name, weight: values, trials, losses })
    }
  }
  return tries
}

/** What the variants did, told apart by layers. */
function ratiosOf(
  variants: readonly Variant[],
  divergences: readonly number[],
  tries: readonly TriedLayer[],
): Map<string, LayerRatios> {
  const ratios = new Map(tries.map(({ name }) => [name, [] as (number | undefined)[]]))
  for (const [at, { layers, trial }] of variants.entries()) {
    const all = layers.reduce((sum, { losses }) => sum + (losses[trial] ?? 0), 0)
    for (const { name, trials, losses } of layers) {
      const { error } = trials.trials[trial]
      const share = layers.length === 1 ? 1 : all === 0 ? 0 : losses[trial] / all
      const ratio = error === 0 ? undefined : (share * divergences[at]) / error
      if (ratio !== undefined && !Number.isFinite(ratio)) {
        throw new NumericError(
          `${name}: the effect of quantizing it on the model's predictions comes to ${ratio}; expected a finite number. ` +
            'Its weights or activations overflow',
        )
      }
      ratios.get(name)![trial] = ratio
    }
  }
  return new Map(
    tries.map(({ name, trials }) => [name, { errors: trials.errors, ratios: ratios.get(name)! }]),
  )
}
