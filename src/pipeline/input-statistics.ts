import { type DriftAccumulator, driftAccumulator } from '../drift.js'
import { NumericError } from '../errors.js'
import type { LayerDrift } from '../gptvq/drift-correction.js'
import { HessianAccumulator } from '../hessian.js'
import type { Matrix } from '../matrix.js'
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
  readonly drift?: LayerDrift
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
  const see = (present: Activations, original?: Activations) => {
    collector ??= openCollector(present, full !== undefined)
    collect(collector, present, original)
  }
  const visit = (of: BlockStream, first: number, count: number, use: (seen: Activations) => void) =>
    visitStage(of.block, group, batchOf(of.stream, first, count), (input, residual) =>
      use({ input, residual }),
    )
  try {
    await forEachBatch(stream, onBatch, signal, (first, count) => {
      // one inside the other: what is shown lasts as long as the visit
      const present = (original?: Activations) =>
        visit({ block, stream }, first, count, (seen) => see(seen, original))
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
  readonly input: DriftAccumulator | undefined
  readonly residual: DriftAccumulator | undefined
}

function openCollector({ input, residual }: Activations, drifts: boolean): Collector {
  return {
    hessian: new HessianAccumulator(input.cols),
    input: drifts ? driftAccumulator(input.cols, input.cols) : undefined,
    residual: drifts && residual ? driftAccumulator(residual.cols, input.cols) : undefined,
  }
}

function collect(collector: Collector, present: Activations, full: Activations | undefined): void {
  collector.hessian.add(present.input)
  if (full === undefined) return
  collector.input?.add(full.input, present.input, present.input)
  if (full.residual && present.residual) {
    collector.residual?.add(full.residual, present.residual, present.input)
  }
}

function statisticsOf({ hessian, input, residual }: Collector): InputStatistics {
  if (input === undefined) return { hessian: hessian.hessian() }
  const drift = { input: input.drift(), ...(residual && { residual: residual.drift() }) }
  return { hessian: hessian.hessian(), drift }
}
