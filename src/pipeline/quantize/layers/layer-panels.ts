import { type Matrix, matrix } from '../../../common/matrix.js'
import {
  type DriftHalves,
  type DriftPull,
  type DriftPulls,
  driftPulls,
  type LayerDrift,
  makeUp,
  requireHalves,
} from '../../../gptvq/drift-correction.js'
import { type LayerFrame, layerFrame } from '../../../gptvq/layer-frame.js'
import { joinPanels, type PanelRows, panelsOf } from '../../../gptvq/layer-panels.js'
import { resolveVqOptions, type VqOptions } from '../../../gptvq/options.js'
import { quantizePanel } from '../../../gptvq/quantize-layer.js'
import { errorOfRows, type RowErrors, rowErrors } from '../../../gptvq/reconstruction-error.js'
import { ownFactors, requireFit } from '../../../hessian/inverse-factor.js'
import { layoutOf } from '../../../packing/layout.js'
import { dequantizeLayer, type VqLayer } from '../../../packing/vq-layer.js'
import { stopwatch } from '../../stopwatch.js'
import { knownTokens, type LayerResult, type LayerWatch, type LayerWork, quantizeHere } from './layer-work.js'

/** What the drift asks of some rows; plain data. */
export interface PullWork {
  /** Of the layer's weight. */
  readonly name: string
  /** Which rows of the layer. */
  readonly part: PanelRows
  /** rows x in. */
  readonly weight: Matrix
  readonly hessian: Matrix
  /** With the residual drift of these rows. */
  readonly halves: DriftHalves
}

/** Some rows to be quantized; plain data. */
export interface PanelWork {
  /** Of the layer's weight. */
  readonly name: string
  /** Which rows of the layer. */
  readonly part: PanelRows
  /** What they are quantized towards, rows x in. */
  readonly target: Matrix
  readonly hessian: Matrix
  /** As `quantizeLayer` is told. */
  readonly tokens?: number
  readonly options: VqOptions
  readonly frame: LayerFrame
}

/** What became of them. */
export interface PanelResult {
  readonly layer: VqLayer
  readonly errors: RowErrors
  readonly seconds: number
}

/** Does the parts of a layer's work, here or elsewhere. */
export interface PanelRunner {
  pull(work: PullWork, watch: LayerWatch): Promise<DriftPulls & { readonly seconds: number }>
  panel(work: PanelWork, watch: LayerWatch): Promise<PanelResult>
}

/** Does the parts in this process. */
export const panelsHere: PanelRunner = {
  async pull({ name, weight, hessian, halves }, { signal, factors = ownFactors }) {
    const lap = stopwatch()
    const pulls = await driftPulls(weight, hessian, halves, { name, factors, ...(signal && { signal }) })
    return { ...pulls, seconds: lap() }
  },
  async panel({ name, part, target, hessian, tokens, options, frame }, watch) {
    const { onProgress = () => {}, signal, factors = ownFactors } = watch
    const lap = stopwatch()
    const known = tokens === undefined ? {} : { tokens }
    const task = { name, onProgress, factors, ...known, ...(signal && { signal }) }
    const layer = await quantizePanel(target, hessian, frame, part.firstGroup, { ...options, ...task })
    const seconds = lap()
    return { layer, errors: rowErrors(target, dequantizeLayer(layer), hessian, frame.exponent), seconds }
  },
}

/** Share of a layer's work that the drift takes; for progress only. */
const PULL_SHARE = 0.2

/** Whether a layer has rows that can be quantized apart from others. */
export function hasPanels({ weight, settings, layerBits }: LayerWork): boolean {
  if (settings.method !== 'gptvq') return false
  const options = resolveVqOptions({ ...settings.options, ...layerBits })
  return panelsOf(layoutOf(weight.rows, weight.cols, options)).length > 1
}

/**
 * Quantizes a layer by GPTVQ panel by panel, all at once: what `quantizeHere` gives, bit for bit, but for the time, which
 * is that of all parts added up.
 */
export async function quantizeInPanels(
  work: LayerWork,
  watch: LayerWatch,
  run: PanelRunner,
): Promise<LayerResult> {
  const { name, weight, inputs, settings, layerBits } = work
  if (settings.method !== 'gptvq' || inputs === undefined) return quantizeHere(work, watch)
  const { hessian, drift } = inputs
  const options: VqOptions = { ...settings.options, ...layerBits }
  const vqSettings = resolveVqOptions(options)
  const panels = panelsOf(layoutOf(weight.rows, weight.cols, vqSettings))
  const follow = progressOf(panels, watch)
  // here, where messages know the rows of the whole layer
  requireFit(weight, hessian, name)
  if (drift) requireHalves(weight, drift, name)
  const pulls =
    drift &&
    (await inOrder(
      panels.map((part) => {
        const own = { name, part, weight: rowsOf(weight, part), hessian, halves: halvesOf(drift, part) }
        return run.pull(own, follow(part, 0, PULL_SHARE))
      }),
    ))
  const { target, move } = pulls ? corrected(work, pulls) : { target: weight, move: null }
  const frame = layerFrame(target, hessian, vqSettings, name)
  const results = await inOrder(
    panels.map((part) => {
      const own = { name, part, target: rowsOf(target, part), hessian, ...knownTokens(inputs) }
      return run.panel({ ...own, options, frame }, follow(part, pulls ? PULL_SHARE : 0, 1))
    }),
  )
  const layers = results.map(({ layer }) => layer)
  const seconds = [...(pulls ?? []), ...results].reduce((sum, part) => sum + part.seconds, 0)
  const { relative } = errorOfRows(joinErrors(results), name)
  return { layer: joinPanels(layers, frame), relativeError: relative, drift: move, seconds }
}

/** Waits for all, and fails as the first of them in their order: so would they one after the other. */
async function inOrder<T>(parts: readonly Promise<T>[]): Promise<T[]> {
  // what fails while another is waited for is looked at in its turn
  for (const part of parts) part.catch(() => {})
  const results: T[] = []
  for (const part of parts) results.push(await part)
  return results
}

function rowsOf({ cols, data }: Matrix, { firstRow, lastRow }: PanelRows): Matrix {
  return matrix(lastRow - firstRow, cols, data.subarray(firstRow * cols, lastRow * cols))
}

function halvesOf([first, second]: DriftHalves, panel: PanelRows): DriftHalves {
  const cut = ({ residual, ...half }: LayerDrift): LayerDrift => ({
    ...half,
    ...(residual && { residual: rowsOf(residual, panel) }),
  })
  return [cut(first), cut(second)]
}

function corrected({ name, weight, driftShare }: LayerWork, parts: readonly DriftPulls[]) {
  const input = joinPulls(
    weight,
    parts.map((part) => part.input),
  )
  const residuals = parts.flatMap(({ residual }) => residual ?? [])
  const pulls = { input, ...(residuals.length > 0 && { residual: joinPulls(weight, residuals) }) }
  const { weight: target, ...move } = makeUp(weight, pulls, { name, share: driftShare })
  return { target, move }
}

function joinPulls({ rows, cols }: Matrix, parts: readonly DriftPull[]): DriftPull {
  const moves = matrix(rows, cols)
  const pull = { moves, common: new Float64Array(rows), energy: new Float64Array(rows) }
  let row = 0
  for (const { moves, common, energy } of parts) {
    pull.moves.data.set(moves.data, row * cols)
    pull.common.set(common, row)
    pull.energy.set(energy, row)
    row += moves.rows
  }
  return pull
}

function joinErrors(results: readonly PanelResult[]): RowErrors {
  const joined = (member: keyof RowErrors) =>
    Float64Array.from(results.flatMap(({ errors }) => Array.from(errors[member])))
  return { energies: joined('energies'), losses: joined('losses') }
}

/** Adds up how far the panels of a layer are, each by its rows. */
function progressOf(panels: readonly PanelRows[], { onProgress = () => {}, signal, factors }: LayerWatch) {
  const shares = new Map<PanelRows, number>()
  const rows = panels.reduce((sum, { firstRow, lastRow }) => sum + lastRow - firstRow, 0)
  return (panel: PanelRows, from: number, to: number): LayerWatch => ({
    onProgress(done) {
      shares.set(panel, ((from + (to - from) * done) * (panel.lastRow - panel.firstRow)) / rows)
      onProgress(Array.from(shares.values()).reduce((sum, share) => sum + share, 0))
    },
    signal,
    ...(factors && { factors }),
  })
}
