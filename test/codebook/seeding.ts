import type { Metric } from '../../src/codebook/metric.js'
import { type KmeansInit, seedCodebooks } from '../../src/codebook/seeds.js'
import { type Matrix, matrix } from '../../src/common/matrix.js'
import { kernels } from '../../src/kernels/kernels.js'

/** The seeds of one group of vectors. */
export function seedsOf(init: KmeansInit, vectors: Matrix, k: number, seed: number, metric: Metric): Matrix {
  const { cols: d, data } = vectors
  const problem = { d, k, groups: [data], metric: metric.data, period: metric.period }
  const clustering = kernels().openClustering(problem)
  try {
    seedCodebooks(init, clustering, problem, [seed])
    return matrix(k, d, clustering.codebook(0))
  } finally {
    clustering.close()
  }
}
