import { type OptionNames, requireObject, requireOneOf } from '../common/check-option.js'
import { OptionError } from '../common/errors.js'
import {
  type PictureOptions,
  pictureOptionNames,
  pictureWidth,
  requireAllFinite,
  requireSome,
} from './check.js'
import { sampleIndices } from './codebooks/codebook-group.js'
import { createCanvas, drawAxisTitle } from './drawing/canvas.js'
import { drawLegend } from './drawing/legend.js'
import { lineEntry, linesAndSymbols, type Series } from './drawing/line-marks.js'
import { cleanText, formatNumber } from './drawing/text.js'

/** How a figure went down, step after step. */
export interface Curve {
  /** E.g. `'EM, k-means++ seeds'` or `'held-out text'`. */
  readonly name: string
  /** One value per step, the first one before any step. */
  readonly values: ArrayLike<number>
  /** The step of each value, rising; default 0, 1, 2 and so on. */
  readonly steps?: ArrayLike<number>
}

/** Options of {@link convergencePlot}. */
export interface ConvergenceOptions extends PictureOptions {
  /** What a step is, default `'iteration'`; e.g. `'epoch'`, `'refinement round'`. */
  step?: string
  /** What the values are, with their unit, default `'loss'`. */
  measure?: string
  /** `'log'` needs values above 0; default `'linear'`. */
  scale?: 'linear' | 'log'
  /** Draws each curve as a share of its first value, so that curves of different size compare. Default false. */
  relative?: boolean
}

const optionNames: OptionNames<ConvergenceOptions> = {
  ...pictureOptionNames,
  step: true,
  measure: true,
  scale: true,
  relative: 'switch',
}

const HEIGHT = 280
const MARGIN = { marginLeft: 64, marginRight: 16, marginTop: 14, marginBottom: 42 }
/** Steps of a curve that are drawn. */
const MOST_STEPS = 400

/**
 * Draws how a loss went down: EM iterations (`losses` of `fitCodebook`), codebook updates, rounds of refinement,
 * or training and held-out KL divergence by epoch. One line per curve.
 *
 * @returns an SVG as text, readable in light, dark and print
 * @throws OptionError when there is no curve, one is empty, or a value cannot be drawn on the scale
 */
export function convergencePlot(curves: readonly Curve[], options: ConvergenceOptions = {}): string {
  requireObject('options', options)
  const { step = 'iteration', measure = 'loss', scale = 'linear', relative = false } = options
  requireOneOf('scale', scale, ['linear', 'log'])
  checkCurves(curves, scale, relative)
  const width = pictureWidth(options, 560, optionNames)
  const series = curves.map(({ name, values, steps }, style): Series => {
    const unit = relative ? values[0] : 1
    const points = drawnOf(values.length).map((at) => {
      const x = steps?.[at] ?? at
      const y = values[at] / unit
      return { x, y, title: `${name}, ${step} ${x}: ${formatNumber(y)}` }
    })
    return { name, style, points }
  })
  const canvas = createCanvas(width, {
    title: options.title ?? `${capital(measure)} by ${step}`,
    description: describe(series, step),
  })
  const legend = drawLegend(canvas, 4, canvas.top, width - 8, series.map(lineEntry)) + 4
  const y = drawAxisTitle(canvas, legend, relative ? `${measure}, share of the first value` : measure)
  const last = Math.max(...series.flatMap(({ points }) => points.map(({ x }) => x)))
  const axis = { labelArrow: 'none' as const, grid: true }
  canvas.plot(0, y, {
    ...MARGIN,
    width,
    height: HEIGHT,
    x: {
      ...axis,
      domain: [0, Math.max(1, last)],
      label: cleanText(step),
      labelAnchor: 'center',
      ...(last <= 10
        ? { ticks: Array.from({ length: last + 1 }, (_, i) => i), tickFormat: String }
        : { ticks: 8 }),
    },
    y: {
      ...axis,
      type: scale,
      nice: true,
      label: null,
      tickFormat: (value: number) => formatNumber(value),
      ticks: 5,
    },
    marks: linesAndSymbols(series),
  })
  return canvas.finish(y + HEIGHT)
}

function checkCurves(curves: readonly Curve[], scale: 'linear' | 'log', relative: boolean): void {
  requireSome('curves', curves, 'curve')
  for (const { name, values, steps } of curves) {
    requireSome(`curves (${name})`, values, 'value')
    requireAllFinite(`curves (${name})`, values)
    if (steps) checkSteps(name, steps, values.length)
    if (relative && !(values[0] > 0)) {
      throw new OptionError('relative', `needs curves that begin above 0, ${name} begins with ${values[0]}`)
    }
    const least = Array.from(values).reduce((least, value) => Math.min(least, value), Infinity)
    if (scale === 'log' && least <= 0) {
      throw new OptionError('scale', `'log' needs values above 0, ${name} has ${least}; use 'linear'`)
    }
  }
}

function checkSteps(name: string, steps: ArrayLike<number>, count: number): void {
  requireAllFinite(`curves (${name}, steps)`, steps)
  const isRising = Array.from(steps).every((step, i) => step >= 0 && (i === 0 || step > steps[i - 1]))
  if (isRising && steps.length === count) return
  throw new OptionError(
    `curves (${name}, steps)`,
    `expected one for each of the ${count} values, from 0 on and rising, got ${Array.from(steps).join(', ')}`,
  )
}

/** Which of the values are drawn: all, or an even draw with the first and the last. */
function drawnOf(count: number): number[] {
  if (count <= MOST_STEPS) return Array.from({ length: count }, (_, i) => i)
  return [...new Set([0, ...sampleIndices(count, MOST_STEPS - 2), count - 1])]
}

function capital(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1)
}

function describe(series: readonly Series[], step: string): string {
  const ends = series.map(({ name, points }) => {
    const [first, last] = [points[0], points[points.length - 1]]
    return `${name} from ${formatNumber(first.y)} to ${formatNumber(last.y)} at ${step} ${last.x}`
  })
  return ends.join('; ')
}
