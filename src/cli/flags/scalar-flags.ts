import {
  type ScalarGridOptions,
  scalarGranularities,
  scalarGrids,
  scaleSearches,
} from '../../baselines/scalar-options.js'
import { type ActivationOptions, activationRanges } from '../../pipeline/activations/options.js'
import { type SchemeOptions, schemes } from '../../pipeline/activations/scheme.js'
import { type EqualizationOptions, equalizations } from '../../pipeline/equalize/options.js'

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

/** Flags of the rounding of activations. */
export const activationFlags = {
  scheme: {
    kind: 'choice',
    choices: schemes,
    help:
      'bits of weights and activations by one name; unless other flags say otherwise --method rtn --granularity channel ' +
      '--grid symmetric --scale-search mse',
  },
  activationBits: {
    kind: 'whole',
    help: 'round the inputs of quantized layers to so many bits, 4 to 16, wherever the model is run',
    default: 'they stay as they are',
  },
  cacheBits: {
    kind: 'whole',
    help: 'round the keys and values that attention reads to so many bits, 4 to 16',
    default: 'they stay as they are',
  },
  activationRange: {
    kind: 'choice',
    choices: activationRanges,
    help:
      "what the codes of activations span: each token's values, or for all tokens those of the calibration text: all, " +
      'all but a percentile, or those of the best signal-to-noise ratio (tf_enhanced)',
    default: 'token',
  },
  activationGrid: {
    kind: 'choice',
    choices: scalarGrids,
    help: 'codes of activations with a zero point, or 0 in the middle',
    default: 'asymmetric',
  },
  activationPercentile: {
    kind: 'number',
    help: 'for --activation-range percentile: percent of values below either end, 50 to 100',
    default: '99.9',
  },
  equalization: {
    kind: 'choice',
    choices: equalizations,
    help:
      'move sizes between inputs and weights first, which leaves what the model computes: by its inputs on calibration ' +
      'text (smoothquant), between the weights of two layers (cross-layer), or at each place as of several ways leaves ' +
      'the outputs of the layers there least off (auto, for gptq and rtn)',
    default: 'none',
  },
  equalizationStrength: {
    kind: 'number',
    help: "for --equalization smoothquant: share, 0 to 1, of the inputs' sizes that goes to the weights",
    default: '0.5',
  },
} as const satisfies Record<keyof (ActivationOptions & SchemeOptions & EqualizationOptions), object>
