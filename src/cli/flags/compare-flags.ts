import type { CompareSettingsOptions } from '../../pipeline/compare/compare-settings.js'
import type { QuantizeModelOptions } from '../../pipeline/quantize/quantize-model.js'
import { engine, evalFlags, type FlagsOf, type FlagTable, products, quantizeFlags, threads } from './flags.js'

const {
  out: _,
  report: __,
  calibration,
  engine: ___,
  threads: ____,
  products: ______,
  redis: _______,
  shared: ________,
  force: _____,
  ...settings
} = quantizeFlags
const ofTrials: FlagTable = settings

/** The flags of `gptvq compare`. */
export const compareFlags = {
  try: {
    kind: 'trials',
    table: ofTrials,
    required: true,
    help: 'settings of one try by their names, e.g. bits=2,vectorDim=4, or default; once for each try',
  },
  text: evalFlags.text,
  calibration,
  sequences: quantizeFlags.sequences,
  sequenceLength: quantizeFlags.sequenceLength,
  seed: quantizeFlags.seed,
  budget: { kind: 'number', help: 'bits per value: names the best try that has no more' },
  chart: { kind: 'path', value: 'FILE', help: 'write an SVG of divergence over bits' },
  context: evalFlags.context,
  windows: evalFlags.windows,
  engine,
  products,
  threads,
  force: { kind: 'switch', help: 'replace a chart that is already there' },
} as const satisfies FlagsOf<
  Omit<CompareSettingsOptions, 'trials'> &
    Pick<QuantizeModelOptions, 'sequences' | 'sequenceLength' | 'seed'> & {
      try: unknown
      budget?: number
      chart?: string
      force?: boolean
    }
>
