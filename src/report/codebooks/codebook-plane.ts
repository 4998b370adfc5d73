import * as Plot from '@observablehq/plot'
import { type Canvas, createCanvas, LABEL_SIZE } from '../drawing/canvas.js'
import { densityMarks } from '../drawing/density-marks.js'
import { formatNumber, formatWhole, textWidth } from '../drawing/text.js'
import { bestScalarLevels, midpoints, roundBelow, snrOfLevels } from '../scalar-reference.js'
import { type CodebookGroup, reachOf, sampleVectors } from './codebook-group.js'
import { groupCoding } from './group-coding.js'

/** Centroids that are drawn with their cells; of more, as many are drawn as points. */
const MOST_CELLS = 1024
/** Vectors that are drawn as points. */
const MOST_POINTS = 500
/** Levels of a scalar grid whose cells can be told apart. */
const MOST_LEVELS = 32

/** Below this width the panels stand one above the other. */
const NARROW = 480
const GAP = 20
const MARGIN = { left: 64, right: 8, top: 44, bottom: 42 }

/** One square panel of the plane: marks over the density, below two lines of text. */
interface Panel {
  readonly title: string
  readonly note: string
  readonly marks: (pixels: number) => Plot.Markish[]
}

/** The picture of a codebook of 2-D vectors. */
export function planePicture(group: CodebookGroup, width: number, title?: string): string {
  const { weights } = group
  const k = group.centroids.length / 2
  const panels =
    weights === undefined
      ? [vectorPanel(group)]
      : [scalarPanel(weights, groupCoding(group).gridBits), vectorPanel(group)]
  const columns = width < NARROW ? 1 : panels.length
  const canvas = createCanvas(panels.length === 1 ? panelWidthOf(width, 1) : width, {
    title: title ?? `A codebook of ${formatWhole(k)} centroids in the plane`,
    notes: notesOf(group),
    description: panels.map((panel) => `${panel.title}: ${panel.note}`).join('. '),
  })
  const panelWidth = panelWidthOf(width, columns)
  const side = panelWidth - MARGIN.left - MARGIN.right
  const height = side + MARGIN.top + MARGIN.bottom
  const reach = reachOf(group)
  for (const [i, panel] of panels.entries()) {
    const x = (i % columns) * (panelWidth + GAP)
    const y = canvas.top + Math.floor(i / columns) * (height + GAP)
    drawPanel(canvas, x, y, panelWidth, height, reach, panel)
  }
  return canvas.finish(canvas.top + Math.ceil(panels.length / columns) * (height + GAP) - GAP)
}

function panelWidthOf(width: number, columns: number): number {
  return Math.min(420, (width - GAP * (columns - 1)) / columns)
}

function notesOf({ centroids, weights, counts }: CodebookGroup): string[] {
  const k = centroids.length / 2
  const notes = ['Shaded: the weights, two at a time. Cells: nearest point by plain distance.']
  if (weights === undefined) notes[0] = 'Cells: nearest centroid by plain distance.'
  if (weights === undefined && counts !== undefined)
    notes.push('The stronger a cell is shaded, the more vectors it holds.')
  if (k > MOST_CELLS) notes.push(`${formatWhole(MOST_CELLS)} of ${formatWhole(k)} centroids are drawn.`)
  return [notes.join(' ')]
}

function drawPanel(
  canvas: Canvas,
  x: number,
  y: number,
  width: number,
  height: number,
  reach: number,
  { title, note, marks }: Panel,
): void {
  canvas.add('text', { x: x + 4, y: y + 16, 'font-size': 13, 'font-weight': 600 }, title)
  canvas.add('text', { x: x + 4, y: y + 34, 'font-size': LABEL_SIZE, fill: 'var(--muted)' }, note)
  const side = width - MARGIN.left - MARGIN.right
  const tick = roundBelow(0.95 * reach)
  const apart = (side * tick) / (4 * reach)
  const halves = textWidth(formatNumber(-tick / 2), LABEL_SIZE) + 6 <= apart
  const ticks = halves ? [-tick, -tick / 2, 0, tick / 2, tick] : [-tick, 0, tick]
  const axis = {
    domain: [-reach, reach],
    ticks,
    tickFormat: (value: number) => formatNumber(value),
    labelArrow: 'none' as const,
  }
  canvas.plot(x, y, {
    width,
    height,
    marginLeft: MARGIN.left,
    marginRight: MARGIN.right,
    marginTop: MARGIN.top,
    marginBottom: MARGIN.bottom,
    x: { ...axis, label: 'first weight of the vector', labelAnchor: 'center' },
    y: { ...axis, label: 'second weight', labelAnchor: 'center' },
    marks: [...marks(side / (2 * reach)), Plot.frame({ stroke: 'var(--muted)', strokeWidth: 0.8 })],
  })
}

function scalarPanel(weights: Float32Array, bits: number): Panel {
  const levels = bestScalarLevels(weights, bits)
  const points = [...levels].flatMap((x) => [...levels].map((y) => ({ x, y })))
  const edges = midpoints(levels)
  const drawn = levels.length <= MOST_LEVELS
  return {
    title: `Even scalar grid, ${formatWhole(levels.length)} × ${formatWhole(levels.length)} points`,
    note: `${bits} bits per weight, SNR ${formatNumber(snrOfLevels(weights, levels))} dB${drawn ? '' : '; too fine to draw'}`,
    marks: (pixels) => [
      ...densityMarks(weights, 2, 0, 1, pixels, MOST_POINTS),
      ...(drawn
        ? [
            Plot.ruleX(edges, { stroke: 'var(--ink)', strokeOpacity: 0.55 }),
            Plot.ruleY(edges, { stroke: 'var(--ink)', strokeOpacity: 0.55 }),
            Plot.dot(points, {
              x: 'x',
              y: 'y',
              className: 'gptvq-levels',
              symbol: 'square',
              r: pointSize(points.length),
              fill: 'var(--series-2)',
              stroke: 'var(--paper)',
              strokeWidth: 0.8,
            }),
          ]
        : []),
    ],
  }
}

function vectorPanel(group: CodebookGroup): Panel {
  const { centroids, counts, weights } = group
  const { bits, snr } = groupCoding(group)
  const k = centroids.length / 2
  const measured = snr === undefined ? '' : `, SNR ${formatNumber(snr)} dB`
  const sample = sampleVectors(centroids, 2, MOST_CELLS)
  const points = Array.from({ length: sample.length / 2 }, (_, i) => ({
    x: sample[2 * i],
    y: sample[2 * i + 1],
    share: 0,
  }))
  const cells = k <= MOST_CELLS
  if (cells && weights === undefined && counts !== undefined) {
    const most = Math.max(1, ...Array.from(counts))
    for (const [i, point] of points.entries()) point.share = (0.75 * counts[i]) / most
  }
  return {
    title: `Vector codebook, ${formatWhole(k)} centroids`,
    note: `${bits}${measured}`,
    marks: (pixels) => [
      ...(weights ? densityMarks(weights, 2, 0, 1, pixels, MOST_POINTS) : []),
      ...(cells
        ? [
            Plot.voronoi(points, {
              x: 'x',
              y: 'y',
              fill: 'var(--density)',
              fillOpacity: (point: { share: number }) => point.share,
              stroke: 'var(--ink)',
              strokeOpacity: 0.55,
              className: 'gptvq-cells',
            }),
          ]
        : []),
      Plot.dot(points, {
        x: 'x',
        y: 'y',
        r: pointSize(points.length),
        fill: 'var(--series-1)',
        stroke: 'var(--paper)',
        strokeWidth: 0.8,
        className: 'gptvq-centroids',
      }),
    ],
  }
}

function pointSize(count: number): number {
  return count <= 64 ? 4 : count <= 256 ? 2.8 : 1.8
}
