import { layoutOf } from '../../../packing/layout.js'
import { resolveLayoutOptions } from '../../../packing/layout-options.js'
import { isTrellis } from '../../../packing/vq-layer.js'
import type { LayerPlan } from './layer-plan.js'
import type { LayerReport } from './layer-report.js'

/** Rows of a group below which the first rows of a stream, which are worse than the rest, weigh heavily. */
const FEWEST_ROWS = 64

/** Says that a group size leaves the trellis of layers fewer rows than it takes to be worth it. */
export function noteOnShortStreams({ linears, settingsOf }: LayerPlan): string[] {
  const short = linears.flatMap(({ name, rows, cols }) => {
    const settings = settingsOf(name)
    if (settings?.method !== 'gptvq' || settings.options.groupSize === undefined) return []
    const layout = layoutOf(rows, cols, resolveLayoutOptions(settings.options))
    const { rowsPerGroup } = layout
    return isTrellis(layout) && rowsPerGroup < Math.min(FEWEST_ROWS, rows) ? [{ name, rowsPerGroup }] : []
  })
  if (short.length === 0) return []
  const { name, rowsPerGroup } = short.reduce((a, b) => (b.rowsPerGroup < a.rowsPerGroup ? b : a))
  return [
    `groupSize starts the trellis of ${short.length} ${short.length === 1 ? 'layer' : 'layers'} anew within ` +
      `${FEWEST_ROWS} rows (${moduleOf(name)}: every ${rowsPerGroup}), which raises errors and saves nothing; leave it ` +
      'out, or take plain codebooks (trellisBits 0)',
  ]
}

/** Share of zeros from which on keeping them is worth more than all that a trellis gains. */
const MANY_ZEROS = 0.1

/** Says that layers have many weights that are exactly zero, which a trellis does not keep. */
export function noteOnZeros(
  layers: readonly Pick<LayerReport, 'name' | 'zeros'>[],
  { settingsOf }: LayerPlan,
): string[] {
  const hasTrellis = (name: string) => {
    const settings = settingsOf(`${name}.weight`)
    return settings?.method === 'gptvq' && resolveLayoutOptions(settings.options).trellisBits > 0
  }
  const sparse = layers.flatMap(({ name, zeros }) =>
    zeros && zeros > MANY_ZEROS && hasTrellis(name) ? [{ name, zeros }] : [],
  )
  if (sparse.length === 0) return []
  const { name, zeros } = sparse.reduce((a, b) => (b.zeros > a.zeros ? b : a))
  return [
    `more than a tenth of the weights of ${sparse.length} ${sparse.length === 1 ? 'layer' : 'layers'} is exactly zero ` +
      `(${name}: ${(100 * zeros).toFixed(0)} percent), which a trellis does not keep; try plain codebooks (trellisBits 0)`,
  ]
}

const moduleOf = (name: string) => name.replace(/\.weight$/, '')
