import * as Plot from '@observablehq/plot'
import { type Canvas, createCanvas } from '../drawing/canvas.js'
import { densityMarks } from '../drawing/density-marks.js'
import { drawLegend } from '../drawing/legend.js'
import { formatNumber, formatWhole } from '../drawing/text.js'
import { bestScalarLevels, roundBelow, snrOfLevels } from '../scalar-reference.js'
import { type CodebookGroup, reachOf, sampleVectors } from './codebook-group.js'
import { groupCoding } from './group-coding.js'

/** Centroids that are drawn in each panel; of more, an even draw of as many. */
const MOST_POINTS = 256
/** Vectors that are drawn as points in each panel. */
const MOST_VECTORS = 150

/** The picture of a codebook of 3-D or 4-D vectors: every pair of components in a panel of its own. */
export function pairPicture(group: CodebookGroup, width: number, title?: string): string {
  const { vectorDim: d, centroids, weights } = group
  const k = centroids.length / d
  const notes = notesOf(group)
  const canvas = createCanvas(width, {
    title: title ?? `A codebook of ${formatWhole(k)} centroids in ${d} dimensions`,
    notes,
    description: `Panels show every pair of the ${d} weights of a vector. ${notes.join(' ')}`,
  })
  const labels = 62
  const bottom = 40
  const panel = Math.min(220, (width - labels - 6) / (d - 1))
  const reach = reachOf(group)
  const tick = roundBelow(0.55 * reach)
  const drawn = sampleVectors(centroids, d, MOST_POINTS)
  const indices = Array.from({ length: drawn.length / d }, (_, i) => i * d)
  const top = legend(canvas, weights !== undefined)
  for (let b = 1; b < d; b++) {
    for (let a = 0; a < b; a++) {
      const left = a === 0 ? labels : 4
      const below = b === d - 1 ? bottom : 4
      const inner = panel - 8
      const axis = {
        domain: [-reach, reach],
        ticks: [-tick, tick],
        tickFormat: (value: number) => formatNumber(value),
        labelArrow: 'none' as const,
        labelAnchor: 'center' as const,
      }
      canvas.plot(labels + a * panel - left, top + (b - 1) * panel, {
        width: left + inner + 4,
        height: inner + 4 + below,
        marginLeft: left,
        marginRight: 4,
        marginTop: 4,
        marginBottom: below,
        x: { ...axis, axis: b === d - 1 ? 'bottom' : null, label: `weight ${a + 1}` },
        y: { ...axis, axis: a === 0 ? 'left' : null, label: `weight ${b + 1}` },
        marks: [
          ...(weights ? densityMarks(weights, d, a, b, inner / (2 * reach), MOST_VECTORS) : []),
          Plot.dot(indices, {
            x: (i: number) => drawn[i + a],
            y: (i: number) => drawn[i + b],
            r: (indices.length <= 64 ? 3 : 2) * (inner < 120 ? 0.6 : 1),
            fill: 'var(--series-1)',
            stroke: 'var(--paper)',
            strokeWidth: 0.5,
            className: 'gptvq-centroids',
          }),
          Plot.frame({ stroke: 'var(--muted)', strokeWidth: 0.8 }),
        ],
      })
    }
  }
  return canvas.finish(top + (d - 1) * panel + bottom)
}

function notesOf(group: CodebookGroup): string[] {
  const { vectorDim: d, centroids, weights } = group
  const { bits, gridBits, snr } = groupCoding(group)
  const k = centroids.length / d
  const notes: string[] = []
  if (weights !== undefined) {
    const scalar = snrOfLevels(weights, bestScalarLevels(weights, gridBits))
    notes.push(
      `${bits}, by plain distance: SNR ${formatNumber(snr ?? 0)} dB, ` +
        `on the best even scalar grid ${formatNumber(scalar)} dB.`,
    )
  }
  if (k > MOST_POINTS) notes.push(`${formatWhole(MOST_POINTS)} of ${formatWhole(k)} centroids are drawn.`)
  return notes
}

function legend(canvas: Canvas & { readonly top: number }, hasWeights: boolean): number {
  const dot = { fill: 'var(--series-1)', stroke: 'var(--paper)', strokeWidth: 0.5 }
  const shade = { fill: 'var(--density)', fillOpacity: 0.45, y1: 1, y2: 13 }
  return drawLegend(canvas, 4, canvas.top, canvas.width - 8, [
    ...(hasWeights ? [{ label: 'weights', marks: [Plot.rect([0], { x1: 2, x2: 24, ...shade })] }] : []),
    { label: 'centroids', marks: [Plot.dot([0], { x: 13, y: 7, r: 3.5, ...dot })] },
  ])
}
