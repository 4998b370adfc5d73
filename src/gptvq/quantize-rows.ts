import { NumericError } from '../common/errors.js'
import { type Pause, pacer } from '../common/event-loop.js'
import type { Matrix } from '../common/matrix.js'
import { dampedInverseFactor, ownFactors, type SharedFactors } from '../hessian/inverse-factor.js'
import {
  columnGroupsOf,
  decodeBlockScales,
  decodeCodebooks,
  emptyLayer,
  isTrellis,
  type VqLayer,
} from '../packing/vq-layer.js'
import { type LayerFrame, workOf } from './layer-frame.js'
import type { VqSettings } from './options.js'
import { type OnPhase, type PhaseClock, phaseClock } from './phase-clock.js'
import { wholeStrip } from './refine/column-strip.js'
import { refineOnce, refinePanel } from './refine/refine-panel.js'
import { dampedHessian, ranAway, refinementHessian, weightError } from './refine/refinement-hessian.js'
import { updateCodebooks } from './refine/update-codebooks.js'
import type { OrderedColumns } from './walk/column-order.js'
import type { ColumnWalk } from './walk/column-walk.js'
import { fitColumnGroup } from './walk/fit-codebooks.js'
import { fitWidths } from './walk/index-widths.js'
import { quantizeColumnGroup } from './walk/quantize-columns.js'
import { type LayerPanel, rowPanels, stateOf } from './walk/row-panel.js'
import { keepIndices, restorePanel, snapshot, storePanel } from './walk/store-panel.js'
import { scaleColumnGroup } from './walk/trellis-groups.js'
import { vectorMetrics } from './walk/vector-metric.js'

/** How a layer is named and watched while it is quantized. */
export interface LayerTask {
  /** How errors name the layer, default `'weight'`. */
  name?: string
  /** Called with the share of the work done, 0 to 1. */
  onProgress?: (done: number) => void
  /** Stops the work between two groups with an AbortedError. */
  signal?: AbortSignal
  /**
   * Rows of activations that the Hessian was made from (`tokens` of its HessianAccumulator). Where they are few for the
   * columns, refinement is damped. Default: enough.
   */
  tokens?: number
  /** @internal */
  onPhase?: OnPhase
  /** @internal Factors of this Hessian that other layers use too. */
  factors?: SharedFactors
}

/** Share of the work that walking the columns takes, refinement the rest; for progress only. */
const COLUMNS_SHARE = { trellis: 0.2, plain: 0.45 }

/** Conjugate-gradient steps in a round of refinement: the indices move on anyway, so that more of them gain nothing. */
const STEPS_IN_A_ROUND = 1

/** The least scale that a bfloat16 holds with all its digits. */
const LEAST_SCALE = 2 ** -126

/** Damping of a descent that has run away without, at least. */
const LEAST_DAMPING = 0.01

/** Rows of a layer, whole panels of it or all. */
export interface RowsOfLayer {
  /** These rows, in ordinary units, and the Hessian. */
  readonly ready: OrderedColumns
  readonly frame: LayerFrame
  /** The number in the layer of the first row group here. */
  readonly firstGroup: number
  readonly settings: VqSettings
}

/** How the work is done and watched. */
interface Course {
  /** How errors name the layer. */
  readonly where: string
  readonly factors: SharedFactors
  readonly pause: Pause
  readonly clock: PhaseClock
  readonly onProgress: (done: number) => void
}

/** The walk through the columns, then refinement. @returns a layer of these rows alone */
export async function quantizeRows(rows: RowsOfLayer, task: LayerTask): Promise<VqLayer> {
  const { name = 'weight', onProgress = () => {}, signal, tokens, factors = ownFactors } = task
  const { frame, settings } = rows
  const { hessian, permutation } = rows.ready
  const columnsShare = COLUMNS_SHARE[settings.trellisBits > 0 ? 'trellis' : 'plain']
  const course: Course = {
    where: permutation ? `${name}, columns in activation order` : name,
    factors,
    pause: pacer(signal),
    clock: phaseClock(task.onPhase),
    onProgress: (done) => onProgress(columnsShare * done),
  }
  const { layer, codebooks } = await walkColumns(rows, course)
  const seen = { ...rows.ready, hessian: refinementHessian(hessian, settings.damping, tokens) }
  await descendOnLoss({ ...rows, ready: seen }, layer, codebooks, {
    ...course,
    onProgress: (done) => onProgress(columnsShare + (1 - columnsShare) * done),
  })
  multiplyScales(layer, frame.exponent, name)
  return permutation ? { ...layer, permutation } : layer
}

/** Takes a layer back to the units of its weights. */
function multiplyScales({ codebookScales, codebookBits }: VqLayer, exponent: number, name: string): void {
  if (exponent === 0) return
  for (const [group, scale] of codebookScales.entries()) {
    const multiplied = scale * 2 ** exponent
    codebookScales[group] = multiplied
    const largest = multiplied * (codebookBits === 8 ? 127 : 1)
    if (scale === 0 || (multiplied >= LEAST_SCALE && Number.isFinite(Math.fround(largest)))) continue
    throw new NumericError(
      `${name}: its weights, around 2^${exponent}, need a scale of ${multiplied}, which a bfloat16 does not hold; ` +
        'multiply the layer by a power of two',
    )
  }
}

/** Quantizes all columns, one after the other. */
async function walkColumns(
  { ready, frame, firstGroup, settings }: RowsOfLayer,
  { where, factors, pause, clock, onProgress }: Course,
): Promise<Pick<ColumnWalk, 'layer' | 'codebooks'>> {
  const { columnOrder, damping, vectorDim } = settings
  const work = workOf(ready, vectorDim)
  await pause()
  const { factor } = await clock('factor', () =>
    factors(`walk ${columnOrder} ${damping} ${work.cols}`, () =>
      dampedInverseFactor(ready.hessian, damping, work.cols, where, pause),
    ),
  )
  const metrics = vectorMetrics(factor, vectorDim, settings.vectorMetric)
  const { squares, scaleRatio } = frame
  const whole = squares ? fitWidths(frame.layout, squares, factor) : frame.layout
  const layout = { ...whole, rows: work.rows }
  await pause()
  const layer = emptyLayer(layout, settings.codebookBits, scaleRatio)
  const codebooks = decodeCodebooks(layer)
  const scales = decodeBlockScales(layer)
  const walk: ColumnWalk = { layout, settings, firstGroup, work, factor, metrics, layer, codebooks, scales }
  const columnGroups = columnGroupsOf(layout)
  for (let group = 0; group < columnGroups; group++) {
    await clock('codebooks', async () =>
      isTrellis(layout) ? scaleColumnGroup(walk, group) : fitColumnGroup(walk, group, pause),
    )
    await clock('columns', () => quantizeColumnGroup(walk, group, pause))
    onProgress((group + 1) / columnGroups)
  }
  return { layer, codebooks }
}

/** Refinement on the true loss, or a codebook update alone, as the settings ask. */
async function descendOnLoss(
  { ready: { weight, hessian }, frame, settings }: RowsOfLayer,
  layer: VqLayer,
  codebooks: Float32Array,
  { pause, clock, onProgress }: Course,
): Promise<void> {
  const { codebookUpdateSteps, refinementRounds, refinementTolerance, damping } = settings
  const isConstant = isTrellis(layer.layout)
  if ((codebookUpdateSteps === 0 || isConstant) && refinementRounds === 0) return onProgress(1)
  const codebookSteps = isConstant ? 0 : Math.min(codebookUpdateSteps, STEPS_IN_A_ROUND)
  const limits = { rounds: refinementRounds, tolerance: refinementTolerance, codebookSteps }
  const panels = rowPanels(weight, hessian, layer, codebooks, frame.panelGroups)
  let damped: Matrix | undefined
  for (const [i, panel] of panels.entries()) {
    const walked = weightError(panel)
    const inPanel = (done: number) => onProgress((i + done) / panels.length)
    const goBack = isConstant ? await refineIndices(panel, inPanel) : await descend(panel, inPanel)
    if (ranAway(walked, weightError(panel))) {
      goBack()
      damped ??= dampedHessian(hessian, Math.max(damping, LEAST_DAMPING))
      const known = { ...panel, hessian: damped }
      await (isConstant ? refineIndices(known) : descend(known))
    }
    onProgress((i + 1) / panels.length)
  }

  async function refineIndices(panel: LayerPanel, inPanel?: (done: number) => void): Promise<() => void> {
    const goBack = keepIndices(panel)
    await clock('refine', async () => refinePanel(panel, await stateOf(panel, pause), limits, pause, inPanel))
    return goBack
  }

  async function descend(panel: LayerPanel, inPanel?: (done: number) => void): Promise<() => void> {
    const state = await stateOf(panel, pause)
    const before = snapshot(panel, layer, state.losses)
    if (refinementRounds === 0) {
      await clock('update', () => updateCodebooks(wholeStrip(panel, state), codebookUpdateSteps, pause))
    } else {
      // its rounds move the codebooks too, and end as low without a descent of these alone before
      await clock('refine', () => refinePanel(panel, state, limits, pause, inPanel))
    }
    const stored = await clock('update', () => storePanel(panel, layer, before, state.residual, pause))
    if (refinementRounds > 0) await clock('refine', () => refineOnce(panel, stored, 0, pause))
    return () => restorePanel(before, panel, layer)
  }
}
