import { type OptionNames, refuseUnknown, requireWhole } from '../check-option.js'
import { NumericError } from '../errors.js'
import { type Pause, pacer } from '../event-loop.js'
import { dampedInverseFactor, ownFactors, requireFit, type SharedFactors } from '../inverse-factor.js'
import { type Matrix, matrix } from '../matrix.js'
import { layoutOf } from '../packing/layout.js'
import {
  columnGroupsOf,
  decodeBlockScales,
  decodeCodebooks,
  emptyLayer,
  isTrellis,
  type VqLayer,
} from '../packing/vq-layer.js'
import { inOrdinaryUnits } from '../unit-scale.js'
import { resolveVqOptions, type VqOptions, type VqSettings, vqOptionNames } from './options.js'
import { type OnPhase, type PhaseClock, phaseClock } from './phase-clock.js'
import { wholeStrip } from './refine/column-strip.js'
import { refineOnce, refinePanel } from './refine/refine-panel.js'
import { dampedHessian, ranAway, refinementHessian, weightError } from './refine/refinement-hessian.js'
import { updateCodebooks } from './refine/update-codebooks.js'
import { scaleRatio } from './scales/choose-scales.js'
import { type OrderedColumns, orderColumns } from './walk/column-order.js'
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

const optionNames: OptionNames<VqOptions & LayerTask> = {
  ...vqOptionNames,
  name: true,
  onProgress: true,
  signal: true,
  tokens: true,
  onPhase: true,
  factors: true,
}

/** Conjugate-gradient steps in a round of refinement: the indices move on anyway, so that more of them gain nothing. */
const STEPS_IN_A_ROUND = 1

/** The least scale that a bfloat16 holds with all its digits. */
const LEAST_SCALE = 2 ** -126

/** Damping of a descent that has run away without, at least. */
const LEAST_DAMPING = 0.01

/**
 * Quantizes one linear layer with GPTVQ (van Baalen et al. 2024, algorithm 1).
 *
 * @param weight out x in
 * @param hessian in x in, `(2 / tokens) X^T X` of the layer's inputs, undamped (see HessianAccumulator)
 * @returns the layer in its stored values; `dequantizeLayer` gives its weights, `packLayer` its bytes
 * @throws OptionError, ShapeError, or NumericError naming the layer (NaN or infinity, a Hessian that is not positive
 *   definite with the damping given), AbortedError
 * @example
 * ```ts
 * const inputs = new HessianAccumulator(weight.cols)
 * for (const batch of activations) inputs.add(batch) // tokens x in each
 * const hessian = inputs.hessian()
 * const layer = await quantizeLayer(weight, hessian, { vectorDim: 2, bits: 2 })
 * console.log(bitsPerValue(packLayer(layer)).total)
 * console.log(reconstructionError(weight, dequantizeLayer(layer), hessian).snrDb)
 * ```
 */
export async function quantizeLayer(
  weight: Matrix,
  hessian: Matrix,
  options: VqOptions & LayerTask = {},
): Promise<VqLayer> {
  refuseUnknown(options, optionNames)
  const { name = 'weight', onProgress = () => {}, signal, tokens, factors = ownFactors } = options
  if (tokens !== undefined) requireWhole('tokens', tokens, 1)
  const settings = resolveVqOptions(options)
  const pause = pacer(signal)
  const clock = phaseClock(options.onPhase)
  requireFit(weight, hessian, name)
  const { scaled, exponent } = inOrdinaryUnits(weight)
  const units = inOrdinaryUnits(hessian).scaled
  await pause()
  const ordered = orderColumns(scaled, units, settings.columnOrder, name)
  await pause()
  const where = ordered.permutation ? `${name}, columns in activation order` : name
  const columnsShare = COLUMNS_SHARE[settings.trellisBits > 0 ? 'trellis' : 'plain']
  const { layer, codebooks } = await walkColumns(ordered, settings, where, factors, pause, clock, (done) =>
    onProgress(columnsShare * done),
  )
  const seen = { ...ordered, hessian: refinementHessian(ordered.hessian, settings.damping, tokens) }
  await descendOnLoss(seen, layer, codebooks, settings, pause, clock, (done) =>
    onProgress(columnsShare + (1 - columnsShare) * done),
  )
  multiplyScales(layer, exponent, name)
  return ordered.permutation ? { ...layer, permutation: ordered.permutation } : layer
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
  { weight, hessian }: OrderedColumns,
  settings: VqSettings,
  name: string,
  factors: SharedFactors,
  pause: Pause,
  clock: PhaseClock,
  onProgress: (done: number) => void,
): Promise<Pick<ColumnWalk, 'layer' | 'codebooks'>> {
  const even = layoutOf(weight.rows, weight.cols, settings)
  const paddedCols = Math.ceil(weight.cols / settings.vectorDim) * settings.vectorDim
  const { columnOrder, damping } = settings
  const { factor, dead } = await clock('factor', () =>
    factors(`walk ${columnOrder} ${damping} ${paddedCols}`, () =>
      dampedInverseFactor(hessian, damping, paddedCols, name, pause),
    ),
  )
  const metrics = vectorMetrics(factor, settings.vectorDim, settings.vectorMetric)
  await pause()
  const work = padWithout(weight, dead, paddedCols)
  await pause()
  const layout = settings.indexWidths === 'same' ? even : fitWidths(even, work, factor)
  await pause()
  const layer = emptyLayer(layout, settings.codebookBits, scaleRatio(layout, work))
  await pause()
  const codebooks = decodeCodebooks(layer)
  const scales = decodeBlockScales(layer)
  const walk: ColumnWalk = { layout, settings, work, factor, metrics, layer, codebooks, scales }
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
  { weight, hessian }: OrderedColumns,
  layer: VqLayer,
  codebooks: Float32Array,
  settings: VqSettings,
  pause: Pause,
  clock: PhaseClock,
  onProgress: (done: number) => void,
): Promise<void> {
  const { codebookUpdateSteps, refinementRounds, refinementTolerance, damping } = settings
  const isConstant = isTrellis(layer.layout)
  if ((codebookUpdateSteps === 0 || isConstant) && refinementRounds === 0) return onProgress(1)
  const codebookSteps = isConstant ? 0 : Math.min(codebookUpdateSteps, STEPS_IN_A_ROUND)
  const limits = { rounds: refinementRounds, tolerance: refinementTolerance, codebookSteps }
  const panels = rowPanels(weight, hessian, layer, codebooks)
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

/** A copy of the weights with dead columns set to 0 and zero columns added up to `paddedCols`. */
function padWithout(weight: Matrix, dead: Uint8Array, paddedCols: number): Matrix {
  const padded = matrix(weight.rows, paddedCols)
  for (let r = 0; r < weight.rows; r++) {
    for (let j = 0; j < weight.cols; j++) {
      if (!dead[j]) padded.data[r * paddedCols + j] = weight.data[r * weight.cols + j]
    }
  }
  return padded
}
