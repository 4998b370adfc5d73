import type { AnalyzeModelOptions } from '../../pipeline/analyze/options.js'
import { engine, evalFlags, type FlagsOf, threads } from './flags.js'
import { activationFlags, scalarFlags } from './scalar-flags.js'

const { activationBits, activationRange, activationGrid, activationPercentile, scheme } = activationFlags

/** The flags of `gptvq analyze`. */
export const analyzeFlags = {
  text: { ...evalFlags.text, help: 'UTF-8 text to run the model on, - for standard input' },
  scheme,
  bits: { kind: 'whole', help: 'bits of weights, 1 to 8', default: '4' },
  groupSize: { kind: 'whole', help: 'weights of a row that share a scale', default: '128' },
  granularity: scalarFlags.granularity,
  grid: scalarFlags.grid,
  scaleSearch: { ...scalarFlags.scaleSearch, choices: ['minmax', 'mse'] },
  scaleCandidates: scalarFlags.scaleCandidates,
  activationBits: { ...activationBits, help: 'bits of the inputs of layers, 4 to 16', default: '8' },
  activationRange,
  activationGrid,
  activationPercentile,
  context: { kind: 'whole', help: 'tokens per window', default: "the model's context, 256 at most" },
  windows: { kind: 'whole', help: 'windows at most, from the start of the text on', default: '4' },
  out: { kind: 'path', value: 'FILE', help: 'write an HTML page with pictures too' },
  force: { kind: 'switch', help: 'replace a page that is already there' },
  engine,
  threads,
} as const satisfies FlagsOf<AnalyzeModelOptions & { out?: string; force?: boolean }>
