import { sharesInput } from '../../model/decoder/dense-stages.js'
import type {
  AttentionDescription,
  BlockDescription,
  DenseFeedForward,
  LinearDescription,
  NormDescription,
} from '../../model/decoder/description.js'
import { entranceOf, projectionsOf } from '../../model/decoder/linears.js'

/**
 * A place where sizes can be moved: what makes the channels is divided by a factor each, the columns of what reads them are
 * multiplied by it.
 */
export interface Seam {
  readonly channels: number
  readonly makers: readonly (NormMaker | RowMaker)[]
  readonly readers: readonly Reader[]
}

/** The weight of a norm: a value for each channel. */
export interface NormMaker {
  readonly norm: NormDescription
}

/** Rows of a linear layer: one for each channel. */
export interface RowMaker {
  readonly linear: LinearDescription
  rowOf(channel: number): number
}

/** A layer that reads the channels. */
export interface Reader {
  readonly linear: LinearDescription
  channelOf(column: number): number
  /** Routers stay in full precision: their sizes say nothing about what rounding loses. */
  readonly isRounded: boolean
}

/** The seams of a block; what stands between them, such as a second norm or a limit, leaves some out. */
export function seamsOf(block: BlockDescription): Seam[] {
  return [...normSeams(block), ...valueSeams(block.attention), ...feedForwards(block).flatMap(gateSeams)]
}

const same = (channel: number) => channel

const reader = (linear: LinearDescription, isRounded = true): Reader => ({
  linear,
  channelOf: same,
  isRounded,
})

function normSeams(block: BlockDescription): Seam[] {
  const { norms, attention, feedForward } = block
  const projections = projectionsOf(attention.projections)
  const beside = sharesInput(block) ? entranceOf(block.feedForward) : []
  const seams = [
    seamOfNorm(
      norms.attentionInput,
      [...projections, ...beside].map((own) => reader(own)),
    ),
  ]
  if (feedForward.kind !== 'routed') {
    if (beside.length === 0) {
      seams.push(
        seamOfNorm(
          norms.feedForwardInput,
          entranceOf(feedForward).map((own) => reader(own)),
        ),
      )
    }
    return seams.flat()
  }
  const { router, shared, experts } = feedForward
  const entrances = [...experts, ...(shared ? [shared.feedForward] : [])].flatMap(entranceOf)
  const routers = [router, ...(shared?.gate ? [shared.gate] : [])]
  const readers = [...entrances.map((own) => reader(own)), ...routers.map((own) => reader(own, false))]
  return [...seams, seamOfNorm(norms.feedForwardInput, readers)].flat()
}

/** None where there is no norm, or one without weights. */
function seamOfNorm(norm: NormDescription | undefined, readers: readonly Reader[]): Seam[] {
  if (norm === undefined || norm.weights.length !== 1) return []
  return [{ channels: norm.size, makers: [{ norm }], readers }]
}

/** Values to the output projection: attention only weighs and adds them. */
function valueSeams({ projections, heads, kvHeads, headDim, clip, output }: AttentionDescription): Seam[] {
  if (clip !== undefined) return []
  const makers: RowMaker[] = []
  if (projections.kind === 'separate') makers.push({ linear: projections.values, rowOf: same })
  else if (projections.order === 'parts') {
    const first = (heads + kvHeads) * headDim
    makers.push({ linear: projections.all, rowOf: (channel) => first + channel })
  } else {
    const rowOf = (channel: number) =>
      Math.floor(channel / headDim) * 3 * headDim + 2 * headDim + (channel % headDim)
    makers.push({ linear: projections.all, rowOf })
  }
  // several heads of queries read one head of values
  const channelOf = (column: number) =>
    Math.floor((Math.floor(column / headDim) * kvHeads) / heads) * headDim + (column % headDim)
  const readers = [{ linear: output, channelOf, isRounded: true }]
  return [{ channels: kvHeads * headDim, makers, readers }]
}

function feedForwards({ feedForward }: BlockDescription): DenseFeedForward[] {
  if (feedForward.kind !== 'routed') return [feedForward]
  return [...feedForward.experts, ...(feedForward.shared ? [feedForward.shared.feedForward] : [])]
}

/** What the gate multiplies, to the down projection; without a gate only where the activation keeps sizes apart. */
function gateSeams(feedForward: DenseFeedForward): Seam[] {
  const { kind, activation, down } = feedForward
  if (kind === 'plain' && activation !== 'relu') return []
  const makers: RowMaker[] =
    kind === 'fused'
      ? [{ linear: feedForward.gateUp, rowOf: (channel) => feedForward.gateUp.rows / 2 + channel }]
      : [{ linear: feedForward.up, rowOf: same }]
  return [{ channels: down.cols, makers, readers: [reader(down)] }]
}
