import { MOST_KEY_BITS } from '../codebook/constant-codebook.js'
import { type KmeansInit, kmeansInits } from '../codebook/seeds.js'
import {
  type OptionNames,
  requireDamping,
  requireOneOf,
  requireShare,
  requireWhole,
} from '../common/check-option.js'
import { OptionError } from '../common/errors.js'
import {
  type LayoutOptions,
  type LayoutSettings,
  MOST_INDEX_BITS,
  resolveLayoutOptions,
} from '../packing/layout-options.js'

/** How a vector measures its distance to a centroid: the full d x d metric, or only its diagonal. */
export type VectorMetric = 'full' | 'diagonal'

/** The settings of GPTVQ; every one has a default. */
export interface VqOptions extends LayoutOptions {
  /** EM iterations per codebook at most, default 100. */
  kmeansIterations?: number
  /** EM of a codebook stops when an iteration lowers its loss by no more than this share, default 1e-4. */
  kmeansTolerance?: number
  /** Default `'kmeans++'`. */
  kmeansInit?: KmeansInit
  /** Tries per codebook, of which the one of least loss is kept; default 3, or 1 without `kmeansInit: 'kmeans++'`. */
  restarts?: number
  /**
   * Share of the mean of the Hessian's diagonal that is added to the diagonal for error feedback and metrics, default
   * 0.1; codebook update and index refinement see the Hessian as it is, unless it comes from few tokens.
   */
  damping?: number
  /** Default `'full'`. */
  vectorMetric?: VectorMetric
  /**
   * Conjugate-gradient steps at most that move the codebooks after all columns, default 32; 0 leaves them where they
   * are. A round of refinement takes one such step for each column group, so that more count without refinement only.
   */
  codebookUpdateSteps?: number
  /** Rounds of refinement of indices, codebooks and scales at most, default 8; 0 leaves them out. */
  refinementRounds?: number
  /** Refinement of a row group stops when a round lowers its loss by no more than this share, default 2e-3. */
  refinementTolerance?: number
  /** Default 0. */
  seed?: number
}

/** All names of {@link VqOptions}. */
export const vqOptionNames: OptionNames<VqOptions> = {
  vectorDim: true,
  bits: true,
  trellisBits: true,
  indexWidths: true,
  groupSize: true,
  columnsPerGroup: true,
  bpv: true,
  codebookBits: true,
  scaleBlockSize: true,
  columnOrder: true,
  kmeansIterations: true,
  kmeansTolerance: true,
  kmeansInit: true,
  restarts: true,
  damping: true,
  vectorMetric: true,
  codebookUpdateSteps: true,
  refinementRounds: true,
  refinementTolerance: true,
  seed: true,
}

/** {@link VqOptions} after validation, defaults filled in. */
export interface VqSettings extends LayoutSettings {
  readonly kmeansIterations: number
  readonly kmeansTolerance: number
  readonly kmeansInit: KmeansInit
  readonly restarts: number
  readonly damping: number
  readonly vectorMetric: VectorMetric
  readonly codebookUpdateSteps: number
  readonly refinementRounds: number
  readonly refinementTolerance: number
  readonly seed: number
}

/** Options that only codebooks fitted to a layer have a use for. */
const PLAIN_ONLY = [
  'kmeansIterations',
  'kmeansTolerance',
  'kmeansInit',
  'restarts',
  'codebookUpdateSteps',
] as const satisfies readonly (keyof VqOptions)[]

/** Bits of an index above which the rows above have too few to add, where plain codebooks can have as many. */
const MOST_TRELLIS_INDEX_BITS = 10
/** Bits per value from which on a trellis of single weights loses less than one of pairs (docs/settings.md). */
const SINGLES_FROM = 3.875
/** Bits per value beside those of indices, about. */
const OVERHEAD = 0.125

/** The settings of a layer as options that give them again. */
export function optionsOf(settings: VqSettings): VqOptions {
  const { groupSize, bpv, scaleBlockSize, ...others } = settings
  const options: VqOptions = {
    ...others,
    scaleBlockSize: scaleBlockSize ?? 'none',
    ...(groupSize !== undefined && { groupSize }),
    ...(bpv !== undefined && { bpv }),
  }
  if (settings.trellisBits > 0) for (const name of PLAIN_ONLY) delete options[name]
  return options
}

/**
 * Weights per vector where nothing else is said: keys have so many bits, whatever a vector has, and those of long indices of
 * pairs leave too few to the rows above.
 */
export function defaultVectorDim(options: VqOptions): 1 | 2 {
  const { bits = 2, bpv, indexWidths, trellisBits } = options
  if (trellisBits !== undefined || asksForPlain(options)) return 2
  const stored = bpv === undefined || indexWidths === 'same' ? bits + OVERHEAD : bpv
  return stored >= SINGLES_FROM ? 1 : 2
}

function asksForPlain(options: VqOptions): boolean {
  return options.codebookBits === 16 || plainOptionOf(options) !== undefined
}

function plainOptionOf(options: VqOptions): (typeof PLAIN_ONLY)[number] | undefined {
  return PLAIN_ONLY.find((name) => options[name] !== undefined)
}

function trellisBitsOf(options: VqOptions, vectorDim: number): number {
  const { bits = 2, trellisBits } = options
  if (trellisBits === undefined) return asksForPlain(options) ? 0 : defaultTrellisBits(bits, vectorDim)
  const plain = plainOptionOf(options)
  if (trellisBits > 0 && plain !== undefined) {
    throw new OptionError(
      plain,
      `belongs to plain codebooks, and the codebook of a trellis is fixed; leave it out, or set trellisBits to 0`,
    )
  }
  return trellisBits
}

/** 12 bits in all, as long as an index leaves some; too few bits for an index are refused as those of a trellis. */
function defaultTrellisBits(bits: number, vectorDim: number): number {
  const indexBits = Math.round(bits * vectorDim)
  if (Number.isInteger(bits) && (indexBits < 1 || indexBits > MOST_TRELLIS_INDEX_BITS)) return 0
  return indexBits <= MOST_INDEX_BITS ? MOST_KEY_BITS - Math.max(1, indexBits) : 0
}

/**
 * Checks every option and fills in the defaults.
 *
 * @throws OptionError naming the option, what it is, and what it can be
 */
export function resolveVqOptions(options: VqOptions): VqSettings {
  const { vectorDim = defaultVectorDim(options) } = options
  const trellisBits = trellisBitsOf(options, vectorDim)
  const layout = resolveLayoutOptions({ ...options, vectorDim, trellisBits })
  const { kmeansIterations = 100, kmeansTolerance = 1e-4, kmeansInit = 'kmeans++' } = options
  const { restarts = kmeansInit === 'kmeans++' ? 3 : 1, damping = 0.1, seed = 0 } = options
  const { vectorMetric = 'full', codebookUpdateSteps = 32, refinementRounds = 8 } = options
  const { refinementTolerance = 2e-3 } = options
  requireWhole('kmeansIterations', kmeansIterations, 0)
  requireOneOf('kmeansInit', kmeansInit, kmeansInits)
  if (kmeansInit === 'cdf' && layout.vectorDim !== 1) {
    throw new OptionError('kmeansInit', `'cdf' works with vectorDim 1 only, vectorDim is ${layout.vectorDim}`)
  }
  requireShare('kmeansTolerance', kmeansTolerance)
  requireWhole('restarts', restarts, 1)
  if (restarts > 1 && kmeansInit !== 'kmeans++') {
    throw new OptionError(
      'restarts',
      `${restarts} tries differ only with kmeansInit 'kmeans++', which draws its seeds; kmeansInit is '${kmeansInit}'`,
    )
  }
  requireOneOf('vectorMetric', vectorMetric, ['full', 'diagonal'])
  requireWhole('codebookUpdateSteps', codebookUpdateSteps, 0)
  requireWhole('refinementRounds', refinementRounds, 0)
  requireShare('refinementTolerance', refinementTolerance)
  requireDamping(damping)
  requireWhole('seed', seed, 0)
  return {
    ...layout,
    kmeansIterations,
    kmeansTolerance,
    kmeansInit,
    restarts,
    damping,
    vectorMetric,
    codebookUpdateSteps,
    refinementRounds,
    refinementTolerance,
    seed,
  }
}
