import { type DriftAccumulator, driftAccumulator } from '../drift.js'
import { NumericError } from '../errors.js'
import type { DriftHalves, LayerDrift } from '../gptvq/drift-correction.js'
import { HessianAccumulator } from '../hessian.js'
import { type Matrix, matrix } from '../matrix.js'
import type { LlamaBlock } from '../model/block.js'
import { visitStage } from '../model/block-stages.js'
import { blockPrefix, type LinearInputGroup } from '../model/linears.js'
import { batchOf, type CalibrationStream, forEachBatch, type OnBatch } from './calibration-stream.js'

/** A block and the tokens that wait in front of a group of its layers. */
export interface BlockStream {
  readonly block: LlamaBlock
  readonly stream: CalibrationStream
}

/** What the calibration tokens say about the inputs of a group of linear layers. */
export interface InputStatistics {
  /** in x in, `(2 / tokens) X^T X`. */
  readonly hessian: Matrix
  /** How the layers' surroundings differ from those in the full model, where that was asked for. */
  readonly drift?: DriftHalves
}

export interface StatisticsOptions {
  /** The same tokens in the full model: asks for the drift. */
  readonly full?: BlockStream | undefined
  readonly onBatch?: OnBatch
  readonly signal?: AbortSignal | undefined
}

/**
 * The statistics of the input that a group of linear layers shares.
 *
 * @throws NumericError naming the layers when an activation is NaN or infinite
 */
export async function collectStatistics(
  group: LinearInputGroup,
  { block, stream }: BlockStream,
  { full, onBatch = () => {}, signal }: StatisticsOptions = {},
): Promise<InputStatistics> {
  let collector: Collector | undefined
  const see = (first: number, present: Activations, original?: Activations) => {
    collector ??= openCollector(present, full !== undefined)
    collector.hessian.add(present.input)
    if (original) collectDrift(collector, present, original, runsOf(stream, first, present.input.rows))
  }
  const visit = (of: BlockStream, first: number, count: number, use: (seen: Activations) => void) =>
    visitStage(of.block, group, batchOf(of.stream, first, count), (input, residual) =>
      use({ input, residual }),
    )
  try {
    await forEachBatch(stream, onBatch, signal, (first, count) => {
      // one inside the other: what is shown lasts as long as the visit
      const present = (original?: Activations) =>
        visit({ block, stream }, first, count, (seen) => see(first, seen, original))
      if (full) visit(full, first, count, present)
      else present()
    })
    return statisticsOf(collector!)
  } catch (error) {
    if (!(error instanceof NumericError)) throw error
    throw new NumericError(`input of ${blockPrefix(block.index)}${group.join(', ')}: ${error.message}`)
  }
}

/** What a group of layers sees of some tokens. */
interface Activations {
  readonly input: Matrix
  readonly residual: Matrix | undefined
}

interface Collector {
  readonly hessian: HessianAccumulator
  /** Of each half of the tokens; none where no drift is asked for. */
  readonly drifts: readonly DriftCollector[]
}

interface DriftCollector {
  readonly input: DriftAccumulator
  readonly residual: DriftAccumulator | undefined
}

function openCollector({ input, residual }: Activations, drifts: boolean): Collector {
  const openDrift = (): DriftCollector => ({
    input: driftAccumulator(input.cols, input.cols),
    residual: residual && driftAccumulator(residual.cols, input.cols),
  })
  return {
    hessian: new HessianAccumulator(input.cols),
    drifts: drifts ? [openDrift(), openDrift()] : [],
  }
}

/** Consecutive rows of a batch, and which half of the tokens they are in. */
interface Run {
  readonly from: number
  readonly to: number
  readonly half: 0 | 1
}

/** How the rows of a batch, whose first sequence has the number `first`, fall to the halves: every other sequence. */
function runsOf({ sequences, length }: CalibrationStream, first: number, rows: number): Run[] {
  // a single sequence is cut in the middle
  const run = sequences > 1 ? length : Math.ceil(length / 2)
  return Array.from({ length: Math.ceil(rows / run) }, (_, i) => ({
    from: i * run,
    to: Math.min(rows, (i + 1) * run),
    half: (first + i) % 2 === 0 ? 0 : 1,
  }))
}

function collectDrift(
  { drifts }: Collector,
  present: Activations,
  full: Activations,
  runs: readonly Run[],
): void {
  for (const { from, to, half } of runs) {
    const cut = ({ cols, data }: Matrix) => matrix(to - from, cols, data.subarray(from * cols, to * cols))
    const { input, residual } = drifts[half]
    const inputs = cut(present.input)
    input.add(cut(full.input), inputs, inputs)
    if (full.residual && present.residual) residual?.add(cut(full.residual), cut(present.residual), inputs)
  }
}

function statisticsOf({ hessian, drifts }: Collector): InputStatistics {
  if (drifts.length === 0) return { hessian: hessian.hessian() }
  const driftOf = ({ input, residual }: DriftCollector): LayerDrift => ({
    tokens: input.tokens,
    input: input.drift(),
    ...(residual && { residual: residual.drift() }),
  })
  const [first, second] = drifts
  return { hessian: hessian.hessian(), drift: [driftOf(first), driftOf(second)] }
}
