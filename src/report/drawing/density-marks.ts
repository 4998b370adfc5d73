import * as Plot from '@observablehq/plot'
import { sampleVectors } from '../codebooks/codebook-group.js'

/** Vectors that the contours are drawn from. */
const DENSITY_VECTORS = 8000

/** Contours at these shares of a normal distribution's peak: close together in the tails, where a codebook saves. */
const SHARES = [0.02, 0.06, 0.15, 0.3, 0.5, 0.75]

/** Bounds of the smoothing's standard deviation, in pixels. */
const LEAST_BANDWIDTH = 2
const MOST_BANDWIDTH = 12

/** The library counts density in hundredths of a point per square pixel. */
const DENSITY_UNIT = 100

/**
 * How components `a` and `b` of vectors (n x d) are spread over the plane: shaded contours, and single vectors as
 * small points, which show the tails.
 *
 * @param pixels pixels per unit of both axes
 * @param points vectors that are drawn as points, at most
 */
export function densityMarks(
  vectors: Float32Array,
  d: number,
  a: number,
  b: number,
  pixels: number,
  points: number,
): Plot.Markish[] {
  const sample = sampleVectors(vectors, d, DENSITY_VECTORS)
  const n = sample.length / d
  const deviations = [deviation(sample, d, a) * pixels, deviation(sample, d, b) * pixels]
  // Scott's rule in two dimensions
  const scott = Math.min(...deviations) * n ** (-1 / 6)
  const bandwidth = Math.max(LEAST_BANDWIDTH, Math.min(MOST_BANDWIDTH, scott))
  const [spreadA, spreadB] = deviations.map((deviated) => Math.hypot(deviated, bandwidth))
  const peak = n / (2 * Math.PI * spreadA * spreadB)
  const contours = Plot.density(
    Array.from({ length: n }, (_, i) => i * d),
    {
      x: (i: number) => sample[i + a],
      y: (i: number) => sample[i + b],
      bandwidth,
      thresholds: SHARES.map((share) => share * peak * DENSITY_UNIT),
      fill: 'var(--density)',
      stroke: 'none',
      fillOpacity: 0.16,
    },
  )
  return [contours, pointCloud(sampleVectors(vectors, d, points), d, a, b)]
}

/** The standard deviation of component `a`. */
function deviation(vectors: Float32Array, d: number, a: number): number {
  const n = vectors.length / d
  let sum = 0
  let squares = 0
  for (let i = a; i < vectors.length; i += d) {
    sum += vectors[i]
    squares += vectors[i] ** 2
  }
  return Math.sqrt(Math.max(0, squares / n - (sum / n) ** 2))
}

/** All points in one path: a circle each would take five times the room. */
function pointCloud(vectors: Float32Array, d: number, a: number, b: number): Plot.Markish {
  return (_index, { x, y }, _values, _dimensions, context) => {
    let data = ''
    for (let i = 0; i < vectors.length; i += d) {
      data += `M${x?.(vectors[i + a]).toFixed(1)},${y?.(vectors[i + b]).toFixed(1)}h0`
    }
    const path = context.document.createElementNS('http://www.w3.org/2000/svg', 'path')
    const attributes = { d: data, fill: 'none', stroke: 'var(--density)', 'stroke-width': '1.6' }
    for (const [name, value] of Object.entries(attributes)) path.setAttribute(name, value)
    path.setAttribute('stroke-linecap', 'round')
    return path
  }
}
