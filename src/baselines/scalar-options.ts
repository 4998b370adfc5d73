import { type OptionNames, requireObject, requireOneOf, requireWhole } from '../common/check-option.js'
import { OptionError } from '../common/errors.js'

/** Whether 0 is in the middle of a grid, or where it serves the weights best. */
export type ScalarGrid = 'asymmetric' | 'symmetric'

/** All values of {@link ScalarGrid}. */
export const scalarGrids: readonly ScalarGrid[] = ['asymmetric', 'symmetric']

/** Which weights share a scale and a zero point: a run of `groupSize` in a row, a whole row, or all of the layer. */
export type ScalarGranularity = 'group' | 'channel' | 'tensor'

/** All values of {@link ScalarGranularity}. */
export const scalarGranularities: readonly ScalarGranularity[] = ['group', 'channel', 'tensor']

/**
 * What a scale is chosen by. `minmax`: the grid spans the weights. Else grids over shares of that span are tried, and the
 * best is kept: by the squared error of the weights (`mse`), or of the layer's outputs (`sequential-mse`).
 */
export type ScaleSearch = 'minmax' | 'mse' | 'sequential-mse'

/** All values of {@link ScaleSearch}. */
export const scaleSearches: readonly ScaleSearch[] = ['minmax', 'mse', 'sequential-mse']

/** How the grid of scalar codes is laid, beside its bits and group size. */
export interface ScalarGridOptions {
  /** Default `'group'`. */
  granularity?: ScalarGranularity
  /** Default `'asymmetric'`. A symmetric grid has the codes `-2^(bits-1)` to `2^(bits-1) - 1` and needs 2 bits. */
  grid?: ScalarGrid
  /** Default `'minmax'`. */
  scaleSearch?: ScaleSearch
  /** Scales that a search tries: `1/n`, `2/n`, ... of the one that spans the weights. Default 20. */
  scaleCandidates?: number
}

/** Options of {@link quantizeRtn} and {@link quantizeGptq}. */
export interface ScalarOptions extends ScalarGridOptions {
  /** Bits per weight, 1 to 8. */
  bits: number
  /** Weights of a row that share a scale and a zero point, default 128. For granularity `'group'` only. */
  groupSize?: number
}

/** Options whose defaults are filled in. */
export interface ScalarSettings extends Required<ScalarGridOptions> {
  /** Bits per weight. */
  readonly bits: number
  /** Undefined unless the granularity is `'group'`. */
  readonly groupSize: number | undefined
}

/** Names of {@link ScalarGridOptions}. */
export const scalarGridOptionNames = {
  granularity: true,
  grid: true,
  scaleSearch: true,
  scaleCandidates: true,
} as const satisfies Record<keyof ScalarGridOptions, true>

/** Names of {@link ScalarOptions}. */
export const scalarOptionNames = {
  ...scalarGridOptionNames,
  bits: true,
  groupSize: true,
} as const satisfies OptionNames<ScalarOptions>

const CANDIDATES = 20

/** Checks the options and fills in the defaults. @throws OptionError */
export function resolveScalarOptions(options: ScalarOptions): ScalarSettings {
  requireObject('options', options)
  const { bits, granularity = 'group', grid = 'asymmetric', scaleSearch = 'minmax' } = options
  const { scaleCandidates = CANDIDATES } = options
  requireWhole('bits', bits, 1, 8)
  requireOneOf('granularity', granularity, scalarGranularities)
  requireOneOf('grid', grid, scalarGrids)
  requireOneOf('scaleSearch', scaleSearch, scaleSearches)
  requireWhole('scaleCandidates', scaleCandidates, 1, 1000)
  if (grid === 'symmetric' && bits < 2) {
    throw new OptionError('grid', `a symmetric grid of ${bits} bit has no positive code; use 2 bits or more`)
  }
  if (options.scaleCandidates !== undefined && scaleSearch === 'minmax') {
    throw new OptionError(
      'scaleCandidates',
      "is of no use to scaleSearch 'minmax', which tries one scale; leave it out, or search by 'mse' or 'sequential-mse'",
    )
  }
  if (granularity !== 'group' && options.groupSize !== undefined) {
    throw new OptionError(
      'groupSize',
      `is of no use to granularity '${granularity}'; leave it out or choose granularity 'group'`,
    )
  }
  const { groupSize = granularity === 'group' ? 128 : undefined } = options
  if (groupSize !== undefined) requireWhole('groupSize', groupSize, 1)
  return { bits, granularity, grid, scaleSearch, scaleCandidates, groupSize }
}

/** Options that come to the same settings, defaults spelt out. */
export function scalarOptionsOf(settings: ScalarSettings): ScalarOptions {
  const { bits, groupSize, granularity, grid, scaleSearch, scaleCandidates } = settings
  return {
    bits,
    ...(groupSize !== undefined && { groupSize }),
    granularity,
    grid,
    scaleSearch,
    ...(scaleSearch !== 'minmax' && { scaleCandidates }),
  }
}
