import { type Matrix, matrix } from '../../common/matrix.js'
import { type SharedFactors, shareFactors } from '../../hessian/inverse-factor.js'
import type { LinearLayer } from '../../model/decoder/linears.js'
import { layoutOf } from '../../packing/layout.js'
import { resolveLayoutOptions } from '../../packing/layout-options.js'
import { pack } from '../../packing/quantized-layer.js'
import { isTrellis } from '../../packing/vq-layer.js'
import type { InputStatistics } from '../calibrate/statistics/stage-sums.js'
import type { LayerBits } from '../mixed/options.js'
import { quantizeHere } from '../quantize/layers/layer-work.js'
import type { MethodSettings } from '../quantize/quantize-options.js'
import { stopwatch } from '../stopwatch.js'
import { type Extent, measureRows, type RowSeconds } from './measure-rows.js'

/** Seconds that quantizing a layer takes. */
export interface LayerSeconds {
  /** All but the factors. */
  readonly own: number
  /** Of the factors of its Hessian, which layers that share it make once. */
  readonly factors: number
}

/** The same of some of its columns. */
export interface PartSeconds extends RowSeconds {
  readonly factors: number
}

/** A layer, and what it would be quantized with. */
export interface LayerToMeasure {
  readonly linear: LinearLayer
  readonly weight: Matrix
  readonly inputs: InputStatistics | undefined
  readonly settings: MethodSettings
  readonly share: number
  /** Tokens that the Hessian will come from. */
  readonly tokens: number
  readonly most: Extent
}

/**
 * Quantizes parts of a layer and tells how long all of it will take: rows do not see each other, so their time grows with
 * their number; what they take by column and by pair of columns is told from two widths.
 */
export function measureLayer(layer: LayerToMeasure): Promise<LayerSeconds> {
  return growing(layer.linear.cols, layer.most.cols, (cols) => measurePart(layer, cols))
}

/** What `measure` finds of the first of `cols` columns; of more than `most` it follows from two widths. */
export async function growing(
  cols: number,
  most: number,
  measure: (cols: number) => Promise<PartSeconds>,
): Promise<LayerSeconds> {
  if (cols <= most) {
    const { once, rows, factors } = await measure(cols)
    return { own: once + rows, factors }
  }
  const [narrow, wide] = [await measure(most / 2), await measure(most)]
  const times = cols / most
  // searches grow with the columns, products and drift with their square
  const ofPairs = Math.min(wide.rows, Math.max(0, 2 * wide.rows - 4 * narrow.rows))
  // the wider, the nearer to the cube of the columns: on the way there between it and the power found
  const ofFactors = (powerOf(narrow.factors, wide.factors, 2, 3) + 3) / 2
  return {
    own: (wide.once + ofPairs) * times ** 2 + (wide.rows - ofPairs) * times,
    factors: wide.factors * times ** ofFactors,
  }
}

/** The power that leads from what half the columns take to what all take, within what it can be. */
function powerOf(narrow: number, wide: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, Math.log2(wide / narrow) || least))
}

/** Of the first `cols` columns, all rows. */
async function measurePart({ linear, most, ...layer }: LayerToMeasure, cols: number): Promise<PartSeconds> {
  const isWhole = isMeasuredWhole(layer.settings, linear)
  const settings = isWhole ? layer.settings : partOptions(layer.settings, linear)
  const rows = isWhole ? linear.rows : rowsToMeasure(settings, linear, cols, most.rows)
  const { timed, seconds, besides } = timedFactors(shareFactors())
  const time = (count: number) => {
    const work = {
      name: linear.name,
      weight: corner(layer.weight, count, cols),
      inputs: layer.inputs && ofAllTokens(cornerOf(layer.inputs, count, cols), layer.tokens),
      settings,
      layerBits: bitsOf(settings),
      driftShare: layer.share,
    }
    return besides(async () => {
      const { layer: done } = await quantizeHere(work, { factors: timed })
      pack(done)
    })
  }
  // more rows are those that one codebook serves: half of them would take what its fit takes
  const alike = rows === most.rows
  return { ...(await measureRows(time, rows, linear.rows, alike)), factors: seconds() }
}

/** Factors that a clock runs beside while they are made. */
interface TimedFactors {
  readonly timed: SharedFactors
  /** What they took so far. */
  readonly seconds: () => number
  /** What some work takes besides them. */
  readonly besides: (work: () => Promise<void>) => Promise<number>
}

export function timedFactors(shared: SharedFactors): TimedFactors {
  let seconds = 0
  const timed: SharedFactors = (name, make) =>
    shared(name, async () => {
      const lap = stopwatch()
      const factor = await make()
      seconds += lap()
      return factor
    })
  const besides = async (work: () => Promise<void>) => {
    const [lap, before] = [stopwatch(), seconds]
    await work()
    return lap() - (seconds - before)
  }
  return { timed, seconds: () => seconds, besides }
}

/** A layer narrower than a group of plain codebooks may be is small; with a budget its groups are not known. */
function isMeasuredWhole(settings: MethodSettings, { cols }: LinearLayer): boolean {
  if (settings.method !== 'gptvq' || settings.options.trellisBits) return false
  return settings.budget !== undefined || cols < resolveLayoutOptions(settings.options).columnsPerGroup
}

/** The settings of the whole layer, for a part of it: its groups have as many weights. */
function partOptions(settings: MethodSettings, { rows, cols }: LinearLayer): MethodSettings {
  if (settings.method !== 'gptvq' || settings.options.trellisBits) return settings
  const resolved = resolveLayoutOptions(settings.options)
  const layout = layoutOf(rows, cols, resolved)
  const { bpv: _, ...options } = settings.options
  return { ...settings, options: { ...options, groupSize: layout.rowsPerGroup * layout.columnsPerGroup } }
}

function rowsToMeasure(
  settings: MethodSettings,
  { rows, cols }: LinearLayer,
  width: number,
  most: number,
): number {
  if (settings.method !== 'gptvq') return Math.min(rows, most)
  const resolved = resolveLayoutOptions(settings.options)
  const layout = layoutOf(rows, Math.min(cols, width), resolved)
  return Math.min(rows, isTrellis(layout) ? most : Math.max(most, layout.rowsPerGroup))
}

/** Of mixed bits the mean; they are not known yet. */
function bitsOf(settings: MethodSettings): LayerBits | undefined {
  return settings.method === 'gptvq' && settings.budget !== undefined ? { bpv: settings.budget } : undefined
}

/** The first rows of the first columns. */
export function corner({ cols, data }: Matrix, rows: number, width: number): Matrix {
  const part = matrix(rows, width)
  for (let r = 0; r < rows; r++) part.data.set(data.subarray(r * cols, r * cols + width), r * width)
  return part
}

/**
 * Stands for what all tokens would have shown. Where few were measured, the Hessian is of a low rank as theirs will not be,
 * and refinement takes twice as long with such a one: to halve what is off its diagonal is enough against that.
 */
export function ofAllTokens({ hessian, ...seen }: InputStatistics, tokens: number): InputStatistics {
  const { cols, data } = hessian
  const isLowRank = seen.tokens < cols && tokens >= cols
  if (isLowRank) for (let i = 0; i < data.length; i++) if (i % (cols + 1) !== 0) data[i] /= 2
  return { ...seen, hessian, tokens }
}

function cornerOf(
  { hessian, drift, ...seen }: InputStatistics,
  rows: number,
  width: number,
): InputStatistics {
  const own = { ...seen, hessian: corner(hessian, width, width) }
  if (drift === undefined) return own
  const half = ({ tokens, input, residual }: (typeof drift)[number]) => ({
    tokens,
    input: corner(input, width, width),
    ...(residual && { residual: corner(residual, rows, width) }),
  })
  return { ...own, drift: [half(drift[0]), half(drift[1])] }
}
