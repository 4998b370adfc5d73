import * as Plot from '@observablehq/plot'
import { requireObject } from '../../common/check-option.js'
import { OptionError } from '../../common/errors.js'
import { type PictureOptions, pictureWidth, requireAllFinite, requireFigure, requireSome } from '../check.js'
import { createCanvas, drawAxisTitle } from '../drawing/canvas.js'
import { drawLegend } from '../drawing/legend.js'
import { formatNumber, formatWhole } from '../drawing/text.js'
import type { IndexUsage } from './index-usage.js'

/** Bars at most; of more centroids several share a bar. */
const MOST_BARS = 128
const HEIGHT = 240
/** Below, only few numbers of four digits stand side by side. */
const NARROW = 420
const MARGIN = { marginLeft: 56, marginRight: 16, marginTop: 14, marginBottom: 42 }

/**
 * Draws how unevenly centroids are used, the most used one first, beside an even use; and says how many bits an index
 * takes and how many it needs, which is what an entropy code could save.
 *
 * @param usage of {@link indexUsage}
 * @returns an SVG as text, readable in light, dark and print
 * @throws OptionError naming the field that cannot be right
 */
export function indexHistogram(usage: IndexUsage, options: PictureOptions = {}): string {
  requireObject('usage', usage)
  checkUsage(usage)
  const width = pictureWidth(options, 560)
  const { shares, storedBits, entropyBits, unused, isTrellis } = usage
  const k = shares.length
  const perBar = Math.ceil(k / MOST_BARS)
  const bars = Array.from({ length: Math.ceil(k / perBar) }, (_, i) => {
    const members = shares.subarray(i * perBar, Math.min(k, (i + 1) * perBar))
    const percent = (100 * members.reduce((sum, share) => sum + share, 0)) / members.length
    return { from: i * perBar, to: i * perBar + members.length, percent }
  })
  const saving = storedBits > 0 ? Math.max(0, 1 - entropyBits / storedBits) : 0
  const need = isTrellis
    ? `A centroid's number has ${formatNumber(storedBits)} bits, those of the rows above included; by their use ` +
      `${formatNumber(entropyBits)} would do. `
    : `An index takes ${formatNumber(storedBits)} bits and needs ${formatNumber(entropyBits)}: ` +
      `an entropy code could save ${formatNumber(100 * saving, 2)} % of the index bits. `
  const notes = [
    `${need}${unused === 0 ? 'Every centroid is used.' : `${formatNumber(100 * unused, 2)} % of the centroids are unused.`}`,
  ]
  const canvas = createCanvas(width, {
    title: options.title ?? `How ${formatWhole(k)} centroids are used`,
    notes,
    description: notes[0],
  })
  const even = { stroke: 'var(--series-2)', strokeWidth: 2, strokeDasharray: '6 4' }
  const sign = { fill: 'var(--series-1)', x1: 6, x2: 20, y1: 1, y2: 13 }
  const legend = drawLegend(canvas, 0, canvas.top, width, [
    { label: 'mean over groups', marks: [Plot.rect([0], sign)] },
    { label: 'even use', marks: [Plot.link([0], { x1: 0, x2: 26, y: 7, ...even })] },
  ])
  const y = drawAxisTitle(canvas, legend + 4, 'share of the vectors per centroid, %')
  canvas.plot(0, y, {
    ...MARGIN,
    width,
    height: HEIGHT,
    x: {
      domain: [0, k],
      label: 'rank of the centroid in its group, by use',
      labelAnchor: 'center',
      labelArrow: 'none',
      tickFormat: (value: number) => formatWhole(value),
      ...(k <= 4 ? { ticks: Array.from({ length: k + 1 }, (_, i) => i) } : { ticks: width < NARROW ? 3 : 6 }),
    },
    y: {
      label: null,
      labelArrow: 'none',
      grid: true,
      nice: true,
      ticks: 5,
    },
    marks: [
      Plot.rect(bars, {
        x1: 'from',
        x2: 'to',
        y1: 0,
        y2: 'percent',
        fill: 'var(--series-1)',
        inset: bars.length > 64 ? 0.2 : 0.8,
        title: ({ from, to, percent }: (typeof bars)[number]) =>
          `${to - from === 1 ? `rank ${to}` : `ranks ${from + 1} to ${to}`}: ${formatNumber(percent)} %`,
        className: 'gptvq-ranks',
      }),
      Plot.ruleY([100 / k], even),
      Plot.ruleY([0], { stroke: 'var(--ink)' }),
    ],
  })
  return canvas.finish(y + HEIGHT)
}

function checkUsage({ shares, storedBits, entropyBits, unused }: IndexUsage): void {
  requireSome('shares', shares, 'share')
  requireAllFinite('shares', shares)
  const sum = shares.reduce((total, share) => total + share, 0)
  if (Math.abs(sum - 1) > 1e-6) throw new OptionError('shares', `sum to ${sum}; expected 1`)
  requireFigure('storedBits', storedBits, 'it', 0)
  requireFigure('entropyBits', entropyBits, 'it', 0)
  requireFigure('unused', unused, 'it', 0)
}
