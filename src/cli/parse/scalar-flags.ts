import {
  type ScalarGridOptions,
  scalarGranularities,
  scalarGrids,
  scaleSearches,
} from '../../baselines/scalar-options.js'

/** Flags of the grids of scalar codes. */
export const scalarFlags = {
  granularity: {
    kind: 'choice',
    choices: scalarGranularities,
    help: 'for gptq and rtn: weights that share a scale: --group-size of a row, a whole row, or all of a layer',
    default: 'group',
  },
  grid: {
    kind: 'choice',
    choices: scalarGrids,
    help: 'for gptq and rtn: with a zero point in each group, or 0 in the middle',
    default: 'asymmetric',
  },
  scaleSearch: {
    kind: 'choice',
    choices: scaleSearches,
    help:
      'for gptq and rtn: the scale that spans the weights, or the one of several by which the weights (mse) or the ' +
      "layer's outputs (sequential-mse) are off least",
    default: 'minmax',
  },
  scaleCandidates: { kind: 'whole', help: 'scales that a search tries', default: '20' },
} as const satisfies Record<keyof ScalarGridOptions, object>
