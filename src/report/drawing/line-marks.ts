import * as Plot from '@observablehq/plot'
import type { LegendEntry } from './legend.js'
import { cleanText } from './text.js'
import { seriesStyle } from './theme.js'

/** A line through points, told apart from others by colour, symbol and dash. */
export interface Series {
  readonly name: string
  /** Number of its style. */
  readonly style: number
  readonly points: readonly SeriesPoint[]
}

interface SeriesPoint {
  readonly x: number
  readonly y: number
  readonly title: string
}

/** Points of a series that get a symbol. */
const MOST_SYMBOLS = 24

/** The lines of all series, and on them their symbols; of many points only some get one. */
export function linesAndSymbols(series: readonly Series[]): Plot.Markish[] {
  return series.flatMap(({ style, points }) => {
    const { color, symbol, dash } = seriesStyle(style)
    const every = Math.ceil(points.length / MOST_SYMBOLS)
    const marked = points.filter((_, i) => i % every === 0 || i === points.length - 1)
    return [
      Plot.line(points, { x: 'x', y: 'y', stroke: color, strokeWidth: 2, strokeDasharray: dash }),
      Plot.dot(marked, {
        x: 'x',
        y: 'y',
        symbol,
        r: 4,
        stroke: color,
        strokeWidth: 1.8,
        fill: 'var(--paper)',
        title: ({ title }: SeriesPoint) => cleanText(title),
        className: 'gptvq-points',
      }),
    ]
  })
}

/** The entry of a series in the legend. */
export function lineEntry({ name, style }: Series): LegendEntry {
  const { color, symbol, dash } = seriesStyle(style)
  return {
    label: name,
    marks: [
      Plot.link([0], { x1: 0, x2: 26, y: 7, stroke: color, strokeWidth: 2, strokeDasharray: dash }),
      Plot.dot([0], { x: 13, y: 7, symbol, r: 4, stroke: color, strokeWidth: 1.8, fill: 'var(--paper)' }),
    ],
  }
}
