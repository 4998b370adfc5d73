import * as Plot from '@observablehq/plot'
import { type OptionNames, requireObject, requireOneOf } from '../common/check-option.js'
import { OptionError } from '../common/errors.js'
import { type PictureOptions, pictureOptionNames, pictureWidth, requireFigure, requireSome } from './check.js'
import { type Canvas, createCanvas, drawAxisTitle } from './drawing/canvas.js'
import { drawLegend } from './drawing/legend.js'
import { lineEntry, linesAndSymbols, type Series } from './drawing/line-marks.js'
import { formatNumber } from './drawing/text.js'
import { paretoFront } from './pareto-front.js'

/** One measurement: what a method costs in bits, and how good it is. */
export interface RatePoint {
  /** Points of the same method are joined by a line. */
  readonly method: string
  /** Bits per value, all stored bytes counted; above 0. */
  readonly bits: number
  /** The measure, e.g. an error. */
  readonly value: number
}

/** Options of {@link rateDistortionChart}. */
export interface RateDistortionOptions extends PictureOptions {
  /** What `value` is, with its unit, e.g. `'KL divergence to the full model, nats per token'`. Default `'relative error'`. */
  measure?: string
  /** Whether `'less'` (default) or `'more'` of it is better. */
  better?: 'less' | 'more'
  /** `'log'` needs values above 0; default `'linear'`. */
  scale?: 'linear' | 'log'
}

const optionNames: OptionNames<RateDistortionOptions> = {
  ...pictureOptionNames,
  measure: true,
  better: true,
  scale: true,
}

const HEIGHT = 320
const MARGIN = { marginLeft: 56, marginRight: 16, marginTop: 14, marginBottom: 42 }

/**
 * Draws error (or any other measure of quality) over bits per value, one line per method. The points that no other
 * beats in both, the Pareto front, are ringed and joined by a broad band.
 *
 * @returns an SVG as text, readable in light, dark and print
 * @throws OptionError when there is no point, or one cannot be drawn on the scale
 */
export function rateDistortionChart(
  points: readonly RatePoint[],
  options: RateDistortionOptions = {},
): string {
  requireObject('options', options)
  const { measure = 'relative error', better = 'less', scale = 'linear' } = options
  requireOneOf('better', better, ['less', 'more'])
  requireOneOf('scale', scale, ['linear', 'log'])
  checkPoints(points, scale)
  const width = pictureWidth(options, 560, optionNames)
  const sign = better === 'less' ? 1 : -1
  const front = paretoFront(points.map((point) => ({ ...point, cost: sign * point.value })))
  const series = [...new Set(points.map(({ method }) => method))].map(
    (name, style): Series => ({
      name,
      style,
      points: points
        .filter(({ method }) => method === name)
        .map(({ bits, value }) => ({
          x: bits,
          y: value,
          title: `${name}: ${formatNumber(value)} at ${formatNumber(bits)} bits`,
        }))
        .sort((a, b) => a.x - b.x),
    }),
  )
  const canvas = createCanvas(width, {
    title: options.title ?? 'Quality against size',
    description: describe(front, measure),
  })
  const y = drawAxisTitle(canvas, drawSeries(canvas, series), `${measure} (${better} is better)`)
  const axis = { labelArrow: 'none' as const, grid: true }
  canvas.plot(0, y, {
    ...MARGIN,
    width,
    height: HEIGHT,
    x: {
      ...axis,
      label: 'bits per value, all stored bytes counted',
      labelAnchor: 'center',
      nice: true,
      ticks: 6,
    },
    y: {
      ...axis,
      type: scale,
      label: null,
      zero: scale === 'linear' && better === 'less',
      nice: scale === 'linear',
      ...(scale === 'log'
        ? {
            domain: logDomain(points.map(({ value }) => value)),
            tickFormat: (value: number) => formatNumber(value, 2),
            ticks: 5,
          }
        : {}),
    },
    marks: [
      Plot.line(front, {
        x: 'bits',
        y: 'value',
        stroke: 'var(--front)',
        strokeWidth: 9,
        strokeOpacity: 0.45,
        className: 'gptvq-front',
      }),
      Plot.dot(front, {
        x: 'bits',
        y: 'value',
        r: 8,
        stroke: 'var(--front)',
        strokeWidth: 2,
        className: 'gptvq-front',
      }),
      ...linesAndSymbols(series),
    ],
  })
  return canvas.finish(y + HEIGHT)
}

function checkPoints(points: readonly RatePoint[], scale: 'linear' | 'log'): void {
  requireSome('points', points, 'point')
  for (const { method, bits, value } of points) {
    requireFigure('points', bits, `bits of ${method}`, 0)
    requireFigure('points', value, `value of ${method} at ${bits} bits`)
    if (scale === 'log' && value <= 0) {
      throw new OptionError('scale', `'log' needs values above 0, ${method} has ${value}; use 'linear'`)
    }
  }
}

/** A little more than the values span, so that no symbol is cut. */
function logDomain(values: readonly number[]): [number, number] {
  return [Math.min(...values) / 1.4, Math.max(...values) * 1.4]
}

function drawSeries(canvas: Canvas & { readonly top: number }, series: readonly Series[]): number {
  const band = { x1: 0, x2: 26, y: 7, stroke: 'var(--front)' }
  const front = {
    label: 'Pareto front',
    marks: [
      Plot.link([0], { ...band, strokeWidth: 9, strokeOpacity: 0.45 }),
      Plot.dot([0], { x: 13, y: 7, r: 6, stroke: 'var(--front)', strokeWidth: 2 }),
    ],
  }
  return drawLegend(canvas, 4, canvas.top, canvas.width - 8, [...series.map(lineEntry), front]) + 4
}

function describe(front: readonly RatePoint[], measure: string): string {
  const best = front.map(
    ({ method, bits, value }) => `${method} ${formatNumber(value)} at ${formatNumber(bits)} bits`,
  )
  return `${measure} against bits per value. Pareto front: ${best.join(', ')}`
}
