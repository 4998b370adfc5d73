/**
 * The nearest centroid under a metric that belongs to the vector: `dist(x, c) = (x - c)^T M (x - c)`.
 *
 * Expanded, `dist = x^T M x - 2 c . (M x) + c^T M c`. The first term does not depend on the centroid, `M x` is known
 * before the search ("projected") and `c^T M c` is shared by all vectors of one metric ("norms"), so a candidate costs
 * d multiplications. Vector `i` of `n` is measured by metric `i % period`.
 */

/** `projected[i] = M_i x_i` and, summed, `x_i^T M_i x_i` into `energies`; vectors n x d, metric period x d x d. */
export function projectVectors(
  vectors: Float32Array,
  n: number,
  d: number,
  metric: Float64Array,
  period: number,
  projected: Float64Array,
  energies: Float64Array,
): void {
  for (let i = 0; i < n; i++) {
    const at = i * d
    const m = (i % period) * d * d
    let energy = 0
    for (let a = 0; a < d; a++) {
      let sum = 0
      for (let b = 0; b < d; b++) sum += metric[m + a * d + b] * vectors[at + b]
      projected[at + a] = sum
      energy += sum * vectors[at + a]
    }
    energies[i] = energy
  }
}

/** `norms[p * k + j] = c_j^T M_p c_j` for every metric p; codebook k x d, metric period x d x d. */
export function centroidNorms(
  codebook: Float32Array,
  k: number,
  d: number,
  metric: Float64Array,
  period: number,
  norms: Float64Array,
): void {
  for (let p = 0; p < period; p++) {
    const m = p * d * d
    for (let j = 0; j < k; j++) {
      let norm = 0
      for (let a = 0; a < d; a++) {
        let sum = 0
        for (let b = 0; b < d; b++) sum += metric[m + a * d + b] * codebook[j * d + b]
        norm += sum * codebook[j * d + a]
      }
      norms[p * k + j] = norm
    }
  }
}

/**
 * Writes the index of the nearest centroid of each vector into `assignments` and `dist - x^T M x` into `scores`.
 * Of equally near centroids the lowest index wins.
 */
export function assignNearest(
  projected: Float64Array,
  n: number,
  d: number,
  codebook: Float32Array,
  k: number,
  norms: Float64Array,
  period: number,
  assignments: Uint16Array,
  scores: Float64Array,
): void {
  const search = d === 1 ? nearest1 : d === 2 ? nearest2 : d === 4 ? nearest4 : nearestAny
  for (let i = 0; i < n; i++) {
    const best = search(projected, i * d, codebook, k, norms, (i % period) * k, d)
    assignments[i] = best
    scores[i] = scoreOf(projected, i * d, codebook, best * d, norms[(i % period) * k + best], d)
  }
}

function scoreOf(
  projected: Float64Array,
  at: number,
  codebook: Float32Array,
  c: number,
  norm: number,
  d: number,
): number {
  let score = norm
  for (let a = 0; a < d; a++) score -= 2 * projected[at + a] * codebook[c + a]
  return score
}

type Search = (
  projected: Float64Array,
  at: number,
  codebook: Float32Array,
  k: number,
  norms: Float64Array,
  normsAt: number,
  d: number,
) => number

const nearest1: Search = (projected, at, codebook, k, norms, normsAt) => {
  const y = 2 * projected[at]
  let best = 0
  let least = Number.POSITIVE_INFINITY
  for (let j = 0; j < k; j++) {
    const score = norms[normsAt + j] - y * codebook[j]
    if (score < least) {
      least = score
      best = j
    }
  }
  return best
}

const nearest2: Search = (projected, at, codebook, k, norms, normsAt) => {
  const y0 = 2 * projected[at]
  const y1 = 2 * projected[at + 1]
  let best = 0
  let least = Number.POSITIVE_INFINITY
  for (let j = 0; j < k; j++) {
    const score = norms[normsAt + j] - y0 * codebook[2 * j] - y1 * codebook[2 * j + 1]
    if (score < least) {
      least = score
      best = j
    }
  }
  return best
}

const nearest4: Search = (projected, at, codebook, k, norms, normsAt) => {
  const y0 = 2 * projected[at]
  const y1 = 2 * projected[at + 1]
  const y2 = 2 * projected[at + 2]
  const y3 = 2 * projected[at + 3]
  let best = 0
  let least = Number.POSITIVE_INFINITY
  for (let j = 0; j < k; j++) {
    const c = 4 * j
    const score =
      norms[normsAt + j] -
      y0 * codebook[c] -
      y1 * codebook[c + 1] -
      y2 * codebook[c + 2] -
      y3 * codebook[c + 3]
    if (score < least) {
      least = score
      best = j
    }
  }
  return best
}

const nearestAny: Search = (projected, at, codebook, k, norms, normsAt, d) => {
  let best = 0
  let least = Number.POSITIVE_INFINITY
  for (let j = 0; j < k; j++) {
    const score = scoreOf(projected, at, codebook, j * d, norms[normsAt + j], d)
    if (score < least) {
      least = score
      best = j
    }
  }
  return best
}
