import { type DriftAccumulator, driftAccumulator } from '../../drift.js'
import { NumericError } from '../../errors.js'
import type { DriftHalves, LayerDrift } from '../../gptvq/drift-correction.js'
import { HessianAccumulator } from '../../hessian.js'
import { type Matrix, matrix } from '../../matrix.js'
import { type Block, withLinears } from '../../model/decoder/block.js'
import type { Stage } from '../../model/decoder/block-state.js'
import { type CalibrationStream, forEachBatch, type OnBatch } from './calibration-stream.js'
import { type StoredTokens, visitStored } from './stored-state.js'

/** A block and the tokens in front of one of its stages. */
export interface BlockStream {
  readonly block: Block
  readonly stream: CalibrationStream
}

/** What the calibration tokens say about the inputs of a group of linear layers. */
export interface InputStatistics {
  /** in x in, `(2 / tokens) X^T X`. */
  readonly hessian: Matrix
  /** Tokens that the layers saw. */
  readonly tokens: number
  /** Share of the Hessian that comes from tokens of other experts; undefined for layers that see all tokens. */
  readonly pooled?: number
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
 * The statistics of the input that the layers of a stage share. The layers of an expert have no drift: other tokens are
 * routed to it in the full model.
 *
 * @throws NumericError naming the layers when an activation is NaN or infinite
 */
export async function collectStatistics(
  stage: Stage,
  { block, stream }: BlockStream,
  { full, onBatch, signal }: StatisticsOptions = {},
): Promise<InputStatistics> {
  const { length } = stream
  let collector: Collector | undefined
  const see = (batch: StoredTokens, index: number, input: Matrix, original?: Activations) => {
    const present = { input, residual: stage.residualScale === undefined ? undefined : batch.state.residual }
    collector ??= openCollector(present, original !== undefined)
    collector.hessian.add(input)
    if (original) collectDrift(collector, present, original, runsOf(stream, index, input.rows))
  }
  const visit = async (batch: StoredTokens, index: number) => {
    if (full === undefined) {
      return visitStored(block, stage, batch, length, (input) => see(batch, index, input))
    }
    // one inside the other: what is shown lasts as long as the visit
    const { sequences } = batch
    const other = { sequences, state: await full.stream.batches[index].read(stage.reads) }
    visitStored(full.block, stage, other, length, (input) =>
      visitStored(block, stage, batch, length, (own) =>
        see(batch, index, own, { input, residual: other.state.residual }),
      ),
    )
  }
  try {
    await withLinears(block, stage.uses, () =>
      withLinears(full?.block ?? block, stage.uses, () =>
        forEachBatch(stream, signal, visit, { fields: stage.reads, onBatch }),
      ),
    )
    return statisticsOf(collector!, stage.residualScale ?? 1)
  } catch (error) {
    throw namingLayers(error, block, stage)
  }
}

/** The same error, with the layers of a stage named in its message. */
export function namingLayers(error: unknown, { description }: Block, { linears }: Stage): unknown {
  if (!(error instanceof NumericError)) return error
  const kinds = linears.map(({ kind }) => kind).join(', ')
  return new NumericError(`input of ${description.prefix}${kinds}: ${error.message}`)
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

/** How the rows of a batch fall to the halves: every other sequence. */
function runsOf({ batches, length }: CalibrationStream, index: number, rows: number): Run[] {
  const first = index * batches[0].sequences
  // a single sequence is cut in the middle
  const run = batches.length > 1 || batches[0].sequences > 1 ? length : Math.ceil(length / 2)
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

/** @param residualScale what the layers' outputs are multiplied by before they meet the residual stream */
function statisticsOf({ hessian, drifts }: Collector, residualScale: number): InputStatistics {
  const seen = { hessian: hessian.hessian(), tokens: hessian.tokens }
  if (drifts.length === 0) return seen
  const driftOf = ({ input, residual }: DriftCollector): LayerDrift => ({
    tokens: input.tokens,
    input: input.drift(),
    ...(residual && { residual: divided(residual.drift(), residualScale) }),
  })
  const [first, second] = drifts
  return { ...seen, drift: [driftOf(first), driftOf(second)] }
}

function divided({ rows, cols, data }: Matrix, divisor: number): Matrix {
  return matrix(rows, cols, divisor === 1 ? data : data.map((value) => value / divisor))
}
