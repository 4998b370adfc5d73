import { NumericError } from '../../errors.js'
import type { Pause } from '../../event-loop.js'
import { HessianAccumulator } from '../../hessian.js'
import { type SharedFactors, shareFactors } from '../../inverse-factor.js'
import { wholeBlock } from '../../kernels/contract.js'
import { kernels } from '../../kernels/kernels.js'
import { type Matrix, matrix } from '../../matrix.js'
import { type Block, loadedWeight } from '../../model/decoder/block.js'
import type { Stage } from '../../model/decoder/block-state.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { openEmbedding } from '../../model/decoder/embedding.js'
import { openHead } from '../../model/decoder/head.js'
import { linearLayers } from '../../model/decoder/linears.js'
import { runBlock } from '../../model/decoder/run-block.js'
import { blockStages } from '../../model/decoder/stages.js'
import { readTensor } from '../../model/decoder/weights.js'
import { backwardBlock, type LinearGradientListener } from '../../model/passes/backward.js'
import { sampledLossGradient } from '../../model/passes/sampled-loss.js'
import type { Random } from '../../random.js'
import { forwardBlocks, type PassModel, parts, withBlock } from '../../train/loop/passes.js'
import { type LayerRatios, predictEffects } from './effects.js'
import type { LayerTrials } from './trials.js'

export interface SensitivityInput {
  readonly model: PassModel
  /** Token ids, all of one length. */
  readonly sequences: readonly Int32Array[]
  /** Whether a layer is to be measured, by the name of its weight. */
  readonly isTried: (name: string) => boolean
  /** Quantizes a layer for trial, given its Hessian on the sequences. */
  readonly tryLayer: (
    linear: { readonly name: string },
    weight: Matrix,
    hessian: Matrix,
    factors: SharedFactors,
  ) => Promise<LayerTrials>
  readonly random: Random
  readonly pause: Pause
  /** Called with the share of the work done, 0 to 1. */
  readonly onProgress: (done: number) => void
  /** Where an earlier measurement of the same stopped. */
  readonly begun?: SensitivityState | undefined
  /** Is given where the measurement stands, block by block. */
  readonly onBlock?: ((state: SensitivityState) => Promise<void>) | undefined
}

/** Where a measurement stands: it goes from the last block to the first. */
export interface SensitivityState {
  /** The block that is next. */
  readonly next: number
  /** By the name of the weight, in the order they were measured. */
  readonly measured: ReadonlyMap<string, LayerRatios>
  /** The gradient on the output of the next block, as that output tokens x hiddenSize. */
  readonly onOutput: Float32Array
}

/** Share of the work that the forward pass of all blocks takes; for progress only. */
const FORWARD_SHARE = 0.1

/**
 * Predicts how far the model's predictions move when one linear layer is quantized: the mean KL(full || quantized) in
 * nats per token, for each candidate of each layer.
 *
 * To second order it is half the mean square of `<G, Q - W>`, where `G` is the gradient on the weight of `-log p` of a
 * token drawn from the full model's own prediction at every position (its Fisher information). `G` is summed over a
 * sequence before it is squared: an error moves the predictions at all later positions, and what comes from several
 * positions may add up or cancel; squared token by token, it would be overrated where it cancels (keys), by several
 * times. One forward and backward pass of the full model gives `G` of all layers. See `predictEffects` for the noise.
 *
 * Memory holds the inputs of all blocks, and the trials of one block.
 *
 * @returns by the name of the weight, in the shape of the trials' errors
 * @throws NumericError naming the layer when a number is NaN or infinite
 */
export async function measureSensitivity(input: SensitivityInput): Promise<Map<string, number[][]>> {
  const { model, sequences, pause, onProgress, begun, onBlock } = input
  const { config } = model
  const length = sequences[0].length
  const measured = new Map(begun?.measured)
  const last = begun?.next ?? config.blocks.length - 1
  const { blockInputs, final } = await inputsOfBlocks(input, last)
  let onOutput = begun?.onOutput ?? (await lossGradient(model, final, input.random))
  onProgress(FORWARD_SHARE)
  for (let index = last; index >= 0; index--) {
    const states = blockInputs.pop()!
    await withBlock(model, index, async (block) => {
      const trials = await tryBlock(input, block, states, length)
      const { onInput, squares } = await squaresOfBlock(
        block,
        config,
        trials,
        states,
        onOutput,
        length,
        pause,
      )
      for (const { kind, name } of linearLayers(config, index)) {
        const trial = trials.get(kind)
        if (trial === undefined) continue
        const tokens = sequences.length * length
        measured.set(name, ratiosOf(trial, squares.get(kind)!, tokens, name))
      }
      onOutput = onInput
    })
    await onBlock?.({ next: index - 1, measured, onOutput })
    onProgress(FORWARD_SHARE + (1 - FORWARD_SHARE) * (1 - index / config.blocks.length))
  }
  const effects = predictEffects([...measured.values()])
  return new Map(Array.from(measured.keys(), (name, i) => [name, effects[i]]))
}

/** What the blocks up to `last` read, and what that one gives. */
async function inputsOfBlocks({ model, sequences, pause }: SensitivityInput, last: number) {
  const { source, config } = model
  const upTo: PassModel = { source, config: { ...config, blocks: config.blocks.slice(0, last + 1) } }
  const blockInputs: Float32Array[] = []
  const embedded = await (await openEmbedding(source, config))(joined(sequences))
  const final = await forwardBlocks(upTo, embedded, sequences[0].length, pause, (_, states) =>
    blockInputs.push(states),
  )
  return { blockInputs, final }
}

async function lossGradient({ source, config }: PassModel, final: Float32Array, random: Random) {
  const head = await openHead(source, config)
  try {
    return await sampledLossGradient(head, final, random)
  } finally {
    head.dispose()
  }
}

/** Quantizes the layers of a block for trial. */
async function tryBlock(
  { model, isTried, tryLayer, pause }: SensitivityInput,
  block: Block,
  states: Float32Array,
  length: number,
): Promise<Map<string, LayerTrials>> {
  const sums = new Map<Stage, HessianAccumulator>()
  for (const { count, of } of parts(states, length, model.config)) {
    await pause()
    await runBlock(block, of(states), count, length, {
      onInput(stage, x) {
        const sum = sums.get(stage) ?? new HessianAccumulator(x.cols)
        sum.add(x)
        sums.set(stage, sum)
      },
    })
  }
  const trials = new Map<string, LayerTrials>()
  for (const stage of blockStages(block.description)) {
    const hessian = sums.get(stage)?.hessian()
    sums.delete(stage)
    const factors = shareFactors()
    for (const { kind, module, rows, cols } of stage.linears) {
      const name = `${module}.weight`
      if (!isTried(name)) continue
      await pause()
      const values =
        loadedWeight(block, kind) ??
        (await readTensor(model.source, name, [rows, cols], 'the shape of the layer'))
      const weight = matrix(rows, cols, values)
      // an expert without tokens does no harm, whatever it is quantized to
      trials.set(kind, await tryLayer({ name }, weight, hessian ?? identity(cols), factors))
    }
  }
  return trials
}

function identity(size: number): Matrix {
  const result = matrix(size, size)
  for (let i = 0; i < size; i++) result.data[i * size + i] = 1
  return result
}

/** For each trial the sum over the sequences of `<G, Q - W>^2`, and the gradient on the block's input. */
async function squaresOfBlock(
  block: Block,
  config: DecoderDescription,
  trials: ReadonlyMap<string, LayerTrials>,
  states: Float32Array,
  onOutput: Float32Array,
  length: number,
  pause: Pause,
): Promise<{ onInput: Float32Array; squares: Map<string, Float64Array> }> {
  const onInput = new Float32Array(states.length)
  const squares = new Map(
    Array.from(trials, ([kind, layer]) => [kind, new Float64Array(layer.trials.length)]),
  )
  const listen: LinearGradientListener = (kind, input, outputGradient, tokens) => {
    const layer = trials.get(kind)
    if (layer === undefined) return
    addSquares(layer, input, outputGradient, sequenceOf(tokens, length), squares.get(kind)!)
  }
  for (const { first, count, of } of parts(states, length, config)) {
    await pause()
    onInput.set(await backwardBlock(block, of(states), of(onOutput), count, length, listen), first)
  }
  return { onInput, squares }
}

/** The sequence that a row of a layer's input belongs to; `tokens` are those that were routed to an expert. */
function sequenceOf(tokens: Int32Array | undefined, length: number): (row: number) => number {
  return (row) => Math.floor((tokens ? tokens[row] : row) / length)
}

/**
 * Adds `<G, Q - W>^2` of each sequence. `G` is the sum over its positions of the gradient `g` on the output times the
 * input `x`, so that `<G, Q - W>` is the sum of `<g, (Q - W) x>`: no gradient on the weight is needed.
 */
function addSquares(
  { trials }: LayerTrials,
  input: Matrix,
  outputGradient: Matrix,
  sequence: (row: number) => number,
  squares: Float64Array,
): void {
  const [tokens, rows, cols] = [input.rows, outputGradient.cols, input.cols]
  const moved = new Float32Array(tokens * rows)
  for (const [trial, { change }] of trials.entries()) {
    const [x, delta] = [wholeBlock(input.data, cols), wholeBlock(change, cols)]
    kernels().gemm('ABt', tokens, rows, cols, 1, x, delta, 0, wholeBlock(moved, rows))
    for (let first = 0, end = 0; first < tokens; first = end) {
      while (end < tokens && sequence(end) === sequence(first)) end++
      let sum = 0
      for (let i = first * rows; i < end * rows; i++) sum += outputGradient.data[i] * moved[i]
      squares[trial] += sum * sum
    }
  }
}

function ratiosOf(
  { errors, trials }: LayerTrials,
  squares: Float64Array,
  tokens: number,
  name: string,
): LayerRatios {
  const ratios = trials.map(({ error }, trial) => {
    if (error === 0) return undefined
    const ratio = squares[trial] / (2 * tokens * error)
    if (Number.isFinite(ratio)) return ratio
    throw new NumericError(
      `${name}: the effect of quantizing it on the model's predictions comes to ${ratio}; expected a finite number. ` +
        'Its activations or gradients overflow',
    )
  })
  return { errors, ratios }
}

function joined(sequences: readonly Int32Array[]): Int32Array {
  const { length } = sequences[0]
  const tokens = new Int32Array(sequences.length * length)
  for (const [i, sequence] of sequences.entries()) tokens.set(sequence, i * length)
  return tokens
}
