import * as Plot from '@observablehq/plot'
import { createCanvas, drawAxisTitle } from '../drawing/canvas.js'
import { formatNumber, formatWhole } from '../drawing/text.js'
import { bestScalarLevels, midpoints, snrOfLevels } from '../scalar-reference.js'
import { type CodebookGroup, reachOf } from './codebook-group.js'
import { groupCoding } from './group-coding.js'

/** Bars of the histogram of the weights. */
const BINS = 72
/** Levels of which the midpoints are drawn too. */
const MOST_EDGES = 64
const DENSITY_HEIGHT = 140
const LINE_HEIGHT = 62
const AXIS_HEIGHT = 24
const SIDES = { marginLeft: 46, marginRight: 12 }

/** A set of levels on a number line of its own. */
interface Levels {
  readonly title: string
  readonly values: ArrayLike<number>
  readonly color: string
  readonly symbol: 'circle' | 'square'
}

/** The picture of a codebook of single weights. */
export function linePicture(group: CodebookGroup, width: number, title?: string): string {
  const { centroids, weights } = group
  const { bits, gridBits, snr } = groupCoding(group)
  const sorted = Float32Array.from(centroids).sort()
  const lines: Levels[] = [
    {
      title: `Codebook, ${formatWhole(sorted.length)} centroids${snrNote(weights, () => snr ?? 0)}`,
      values: sorted,
      color: 'var(--series-1)',
      symbol: 'circle',
    },
  ]
  if (weights !== undefined) {
    const values = bestScalarLevels(weights, gridBits)
    lines.push({
      title: `Even scalar grid, ${formatWhole(values.length)} levels${snrNote(weights, (w) => snrOfLevels(w, values))}`,
      values,
      color: 'var(--series-2)',
      symbol: 'square',
    })
  }
  const canvas = createCanvas(width, {
    title: title ?? `A codebook of ${formatWhole(sorted.length)} single weights`,
    notes: notesOf(group.trellis && bits, lines),
    description: lines.map((line) => line.title).join('. '),
  })
  const reach = reachOf(group)
  let y = canvas.top
  if (weights !== undefined) {
    y = drawAxisTitle(canvas, y, 'share of the weights per bar, %')
    canvas.plot(0, y, densityPlot(weights, reach, width))
    y += DENSITY_HEIGHT
  }
  for (const [i, line] of lines.entries()) {
    const last = i === lines.length - 1
    canvas.add('text', { x: SIDES.marginLeft, y: y + 16 }, line.title)
    canvas.plot(0, y, levelPlot(line, reach, width, last))
    y += LINE_HEIGHT + (last ? AXIS_HEIGHT : 0)
  }
  return canvas.finish(y)
}

/** @param bits of a trellis, in words */
function notesOf(bits: string | undefined, lines: readonly Levels[]): string[] {
  const notes: string[] = []
  if (bits !== undefined) {
    notes.push(
      `${bits}: an index and those of the rows above pick a centroid, such that outputs, not ` +
        'weights, lose least.',
    )
  }
  if (lines.some(({ values }) => values.length <= MOST_EDGES)) {
    notes.push('Strokes between the points: where one level ends and the next begins.')
  }
  return notes
}

function snrNote(weights: Float32Array | undefined, measure: (weights: Float32Array) => number): string {
  return weights === undefined ? '' : `, SNR ${formatNumber(measure(weights))} dB`
}

function densityPlot(weights: Float32Array, reach: number, width: number): Plot.PlotOptions {
  const step = (2 * reach) / BINS
  const shares = new Float64Array(BINS)
  for (const weight of weights) {
    shares[Math.min(BINS - 1, Math.floor((weight + reach) / step))] += 100 / weights.length
  }
  return {
    ...SIDES,
    width,
    height: DENSITY_HEIGHT,
    marginTop: 14,
    marginBottom: 4,
    x: { axis: null, domain: [-reach, reach] },
    y: { label: null, ticks: 4, grid: true },
    marks: [
      Plot.rectY(shares, {
        x1: (_share: number, i: number) => i * step - reach,
        x2: (_share: number, i: number) => (i + 1) * step - reach,
        y: (share: number) => share,
        fill: 'var(--density)',
        fillOpacity: 0.7,
        inset: 0.3,
      }),
      Plot.ruleY([0], { stroke: 'var(--ink)' }),
    ],
  }
}

function levelPlot(
  { values, color, symbol }: Levels,
  reach: number,
  width: number,
  withAxis: boolean,
): Plot.PlotOptions {
  const points = Array.from(values)
  const edges = points.length <= MOST_EDGES ? midpoints(points) : []
  return {
    ...SIDES,
    width,
    height: LINE_HEIGHT + (withAxis ? AXIS_HEIGHT : 0),
    marginTop: 22,
    marginBottom: 14 + (withAxis ? AXIS_HEIGHT : 0),
    x: withAxis
      ? { domain: [-reach, reach], label: 'weight', labelAnchor: 'center', labelArrow: 'none' }
      : { axis: null, domain: [-reach, reach] },
    y: { axis: null, domain: [-1, 1] },
    marks: [
      Plot.ruleY([0], { stroke: 'var(--muted)' }),
      Plot.ruleX(edges, {
        y1: -0.8,
        y2: 0.8,
        stroke: 'var(--ink)',
        strokeOpacity: 0.6,
        className: 'gptvq-edges',
      }),
      Plot.dot(points, {
        x: (value: number) => value,
        y: 0,
        r: points.length <= 16 ? 5 : points.length <= 64 ? 3 : 1.8,
        symbol,
        fill: color,
        stroke: 'var(--paper)',
        strokeWidth: 0.8,
        className: 'gptvq-levels',
      }),
    ],
  }
}
