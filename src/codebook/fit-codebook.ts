import { type OptionNames, refuseUnknown, requireOneOf, requireWhole } from '../common/check-option.js'
import { OptionError } from '../common/errors.js'
import { assertFinite, type Matrix, matrix, requireMatrix } from '../common/matrix.js'
import { kernels } from '../kernels/kernels.js'
import { runEm } from './em.js'
import { identityMetric, readMetric } from './metric.js'
import { type KmeansInit, kmeansInits, seedCodebooks } from './seeds.js'

/** Options of {@link fitCodebook}. */
export interface CodebookOptions {
  /** Number of centroids, 1 to 65536. */
  k: number
  /**
   * How distances are measured: p x d (diagonal weights) or p x d*d (full symmetric matrices); vector `i` is measured
   * by row `i % p`. Default: plain squared distance.
   */
  metric?: Matrix
  /** Default `'mahalanobis'`. */
  init?: KmeansInit
  /** EM iterations at most, default 100; fewer when nothing changes any more. */
  iterations?: number
  /** Seed of `'kmeans++'`, default 0. */
  seed?: number
}

const optionNames: OptionNames<CodebookOptions> = {
  k: true,
  metric: true,
  init: true,
  iterations: true,
  seed: true,
}

/** What {@link fitCodebook} found. */
export interface FittedCodebook {
  /** Centroids, k x d. */
  readonly codebook: Matrix
  /** Index of each vector's nearest centroid. */
  readonly assignments: Uint16Array
  /** Sum of the distances of all vectors to their centroids. */
  readonly loss: number
  /** The loss after every assignment step, the last one last; rises by no more than float32 rounding. */
  readonly losses: Float64Array
}

/**
 * Fits `k` centroids to vectors (n x d, any d) by k-means under a metric per vector (van Baalen et al. 2024).
 * With fewer distinct vectors than centroids some centroids stay unused; that is not an error.
 *
 * @throws OptionError naming the option that cannot work; ShapeError for a metric that does not fit;
 *   NumericError for NaN or infinity
 */
export function fitCodebook(vectors: Matrix, options: CodebookOptions): FittedCodebook {
  refuseUnknown(options, optionNames)
  requireMatrix(vectors, 'vectors')
  const { k, metric, init = 'mahalanobis', iterations = 100, seed = 0 } = options
  const { rows: n, cols: d } = vectors
  requireWhole('k', k, 1, 65536)
  requireWhole('iterations', iterations, 0)
  requireWhole('seed', seed, 0)
  requireOneOf('init', init, kmeansInits)
  if (init === 'cdf' && d !== 1) {
    throw new OptionError(
      'init',
      `'cdf' needs vectors of 1 dimension, got ${d}; use 'mahalanobis' or 'kmeans++'`,
    )
  }
  assertFinite(vectors, 'vectors')
  const measure = metric ? readMetric(metric, n, d) : identityMetric(d)
  const problem = { d, k, groups: [vectors.data], metric: measure.data, period: measure.period }
  const clustering = kernels().openClustering(problem)
  try {
    seedCodebooks(init, clustering, problem, [seed])
    const [losses] = runEm(clustering, problem, iterations)
    const codebook = matrix(k, d, clustering.codebook(0))
    return {
      codebook,
      assignments: clustering.assignments(0).slice(),
      losses,
      loss: losses[losses.length - 1],
    }
  } finally {
    clustering.close()
  }
}
