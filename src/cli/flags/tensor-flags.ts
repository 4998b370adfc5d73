import type { QuantizeTensorsOptions } from '../../pipeline/quantize/quantize-tensors.js'
import { type FlagsOf, quantizeFlags } from './flags.js'
import { scalarFlags } from './scalar-flags.js'

const { vectorDim, columnsPerGroup, bpv, codebookBits, seed, out, force, maxShardBytes } = quantizeFlags

/** The flags of `gptvq quantize-tensors`. */
export const tensorFlags = {
  out,
  method: {
    kind: 'choice',
    choices: ['rtn', 'kmeans'],
    help: 'round each weight, or cluster vectors of them by plain k-means',
    default: 'rtn',
  },
  tensors: {
    kind: 'patterns',
    help: "weights to quantize by their names, e.g. '*.mlp.*'; can be given several times",
    default: 'all with two dimensions but embeddings, heads, norms, routers and gates of experts',
  },
  bits: { kind: 'whole', help: 'bits per weight, 1 to 8', default: '4 for rtn, 2 for kmeans' },
  groupSize: {
    kind: 'whole',
    help: 'weights that share a scale or a codebook; for kmeans excludes --bpv',
    default: '128 for rtn; for kmeans chosen by --bpv',
  },
  granularity: scalarFlags.granularity,
  grid: scalarFlags.grid,
  scaleSearch: { ...scalarFlags.scaleSearch, choices: ['minmax', 'mse'] },
  scaleCandidates: scalarFlags.scaleCandidates,
  vectorDim,
  columnsPerGroup,
  bpv,
  codebookBits,
  seed,
  force,
  maxShardBytes,
} as const satisfies FlagsOf<QuantizeTensorsOptions>
