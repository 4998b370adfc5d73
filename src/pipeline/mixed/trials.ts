import { widthError } from '../../codebook/constant-codebook.js'
import type { Matrix } from '../../common/matrix.js'
import type { VqOptions } from '../../gptvq/options.js'
import { quantizeLayer } from '../../gptvq/quantize-layer.js'
import { reconstructionError } from '../../gptvq/reconstruction-error.js'
import type { SharedFactors } from '../../hessian/inverse-factor.js'
import { dequantizeLayer } from '../../packing/vq-layer.js'
import type { LayerCandidate } from './candidates.js'
import { DEFAULT_BUDGET } from './options.js'

/** Settings of a trial: a fraction of the time of the real thing, and nearly its ratio of errors between candidates. */
const TRIAL = { codebookUpdateSteps: 4, refinementRounds: 1, restarts: 1 } as const
const MOST_ITERATIONS = 10
/** The same with a trellis, whose codebook is fixed; a quarter of its centroids lose a twentieth more. */
const TRELLIS_TRIAL = { refinementRounds: 0 } as const
const MOST_TRELLIS_BITS = 6

/** A layer quantized for trial. */
export interface Trial {
  /** Relative error on the layer's inputs. */
  readonly error: number
  /** By how much its weights change, rows x cols. */
  readonly change: Float32Array
}

export interface LayerTrials {
  /** Relative errors of the candidates, list by list as they were given. */
  readonly errors: readonly (readonly number[])[]
  /** One trial for each list. */
  readonly trials: readonly Trial[]
}

/**
 * Finds the relative errors of a layer's candidates by quantizing it quickly, for each number of bits with the largest
 * and the smallest groups; between the two the error falls by the same factor with each halving. With a trellis once.
 *
 * @param candidates a list for each number of bits, each group size half of the one before
 * @param options the settings that all candidates share; `bpv` is the budget
 * @throws NumericError, AbortedError as `quantizeLayer`
 */
export async function tryCandidates(
  weight: Matrix,
  hessian: Matrix,
  candidates: readonly (readonly LayerCandidate[])[],
  options: VqOptions,
  task: { readonly name: string; readonly factors?: SharedFactors; readonly signal?: AbortSignal },
): Promise<LayerTrials> {
  const kmeansIterations = Math.min(MOST_ITERATIONS, options.kmeansIterations ?? MOST_ITERATIONS)
  const quantize = async ({ bits, bpv }: LayerCandidate): Promise<Trial> => {
    const trellisBits = trialTrellis(bits, options)
    const effort = trellisBits > 0 ? { ...TRELLIS_TRIAL, trellisBits } : { ...TRIAL, kmeansIterations, bits }
    const settings = { ...options, ...effort, bpv }
    const values = dequantizeLayer(await quantizeLayer(weight, hessian, { ...settings, ...task }))
    const { relative: error } = reconstructionError(weight, values, hessian, task.name)
    const change = values.data
    for (let i = 0; i < change.length; i++) change[i] -= weight.data[i]
    return { error, change }
  }
  if (options.trellisBits) return tryTrellis(candidates[0], options, quantize)
  const errors: number[][] = []
  const trials: Trial[] = []
  for (const sizes of candidates) {
    const smallest = await quantize(sizes[sizes.length - 1])
    const largest = sizes.length > 1 ? await quantize(sizes[0]) : smallest
    errors.push(sizes.map((_, i) => between(largest.error, smallest.error, i / (sizes.length - 1 || 1))))
    trials.push(smallest)
  }
  return { errors, trials }
}

/** The trellis of a trial: a short one, but for candidates of more bits than the longest indices of that would have. */
function trialTrellis(
  bits: number,
  { trellisBits = 0, bits: nominal = 2, vectorDim = 2 }: VqOptions,
): number {
  const short = Math.min(MOST_TRELLIS_BITS, trellisBits)
  return bits * vectorDim <= Math.round(nominal * vectorDim) + short ? short : trellisBits
}

/**
 * One trial, at the number of bits nearest to the budget: that of the others follows from the errors of the constant
 * codebook on a normal source, which all layers share.
 */
async function tryTrellis(
  candidates: readonly LayerCandidate[],
  { bpv: budget = DEFAULT_BUDGET, vectorDim = 2 }: VqOptions,
  quantize: (candidate: LayerCandidate) => Promise<Trial>,
): Promise<LayerTrials> {
  const distance = ({ bpv }: LayerCandidate) => Math.abs(bpv - budget)
  const tried = candidates.reduce((a, b) => (distance(b) < distance(a) ? b : a))
  const trial = await quantize(tried)
  const share = (bits: number) => errorOfBits(vectorDim, bits)
  const errors = candidates.map(({ bits }) => (trial.error * share(bits)) / share(tried.bits))
  return { errors: [errors], trials: [trial] }
}

/** The error of the constant codebook on a normal source, at a number of bits per weight that need not be whole. */
function errorOfBits(vectorDim: number, bits: number): number {
  const width = bits * vectorDim
  const below = Math.floor(width)
  if (below === width) return widthError(vectorDim, width)
  return between(widthError(vectorDim, below), widthError(vectorDim, below + 1), width - below)
}

/** From `first` at share 0 to `last` at share 1 by equal factors; by equal steps where one of them is 0. */
function between(first: number, last: number, share: number): number {
  if (first === 0 || last === 0) return first + (last - first) * share
  return first * (last / first) ** share
}
