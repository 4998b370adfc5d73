import type { KmeansInit } from '../../codebook/seeds.js'
import type { CodebookBits } from '../../codebook/store-codebook.js'
import type { VectorMetric, VqOptions } from '../../gptvq/options.js'
import type { ProductsName } from '../../kernels/native/start-products.js'
import type { EngineName } from '../../model/ops/engine.js'
import type { TokenWeighting } from '../../pipeline/calibrate/statistics/token-weights.js'
import type { Trial } from '../../pipeline/compare/compare-settings.js'
import type { EvaluateModelOptions } from '../../pipeline/evaluate/evaluate-model.js'
import type { DequantizeModelOptions, PlainDtype } from '../../pipeline/folders/dequantize-model.js'
import type { LayerOrder } from '../../pipeline/quantize/layers/layer-order.js'
import type { LayerSetting } from '../../pipeline/quantize/layers/layer-plan.js'
import type { QuantizeModelOptions } from '../../pipeline/quantize/quantize-model.js'
import type { WriteReportOptions } from '../../pipeline/reports/write-report.js'
import { endFlags } from './end-flags.js'
import { longRunFlags } from './long-run-flags.js'
import { activationFlags, scalarFlags } from './scalar-flags.js'

/** One flag: what it takes, and what the help says of it. Parsing, help and error messages all read it from here. */
export type Flag = FlagKind & {
  readonly help: string
  /** The default as the help shows it; the library fills it in. */
  readonly default?: string
  readonly required?: true
}

type FlagKind =
  | { readonly kind: 'switch'; readonly short?: string }
  | { readonly kind: 'path'; readonly value: 'DIR' | 'FILE' | 'MODEL' }
  | { readonly kind: 'bytes' | 'text' }
  /** Can be given several times. */
  | { readonly kind: 'patterns' | 'texts' }
  /** `PATTERN:option=value,...`, by the flags of `table`; can be given several times. */
  | { readonly kind: 'settings'; readonly table: FlagTable }
  /** `option=value option=value`, by the flags of `table`; can be given several times. */
  | { readonly kind: 'trials'; readonly table: FlagTable }
  /** `word` may stand in place of the number. */
  | { readonly kind: 'whole' | 'number'; readonly word?: string }
  | { readonly kind: 'choice'; readonly choices: readonly (string | number)[] }

/** Flags by the name of the library's option; `flagName` gives the spelling on the command line. */
export type FlagTable = Readonly<Record<string, Flag>>

/** What a flag becomes. */
export type FlagValue<F extends Flag> = F extends { kind: 'switch' }
  ? boolean
  : F extends { kind: 'path' | 'text' }
    ? string
    : F extends { kind: 'patterns' | 'texts' }
      ? string[]
      : F extends { kind: 'settings' }
        ? LayerSetting[]
        : F extends { kind: 'trials' }
          ? Trial[]
          : F extends { kind: 'choice'; choices: readonly (infer Choice)[] }
            ? Choice
            : F extends { kind: 'whole' | 'number'; word: infer Word }
              ? number | Word
              : number

type RequiredNames<T extends FlagTable> = {
  [Name in keyof T]: T[Name] extends { required: true } ? Name : never
}[keyof T]

/** The flags given, by option name. */
export type FlagValues<T extends FlagTable> = {
  [Name in RequiredNames<T>]: FlagValue<T[Name]>
} & { [Name in Exclude<keyof T, RequiredNames<T>>]?: FlagValue<T[Name]> }

/** `groupSize` is `--group-size` on the command line. */
export function flagName(option: string): string {
  return `--${option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
}

/** The option that is meant by its own name or by its flag's without hyphens in front. */
export function optionNamed(table: FlagTable, name: string): string | undefined {
  return Object.keys(table).find((option) => option === name || flagName(option) === `--${name}`)
}

/** A flag for every option but the paths that a command names itself and what no flag can give. */
export type FlagsOf<Options> = FlagTable &
  Record<Exclude<keyof Options, 'model' | 'output' | CallerOnly>, Flag>

export type CallerOnly = 'onProgress' | 'onLayer' | 'signal'

/** Flags that every command takes. */
export const commonFlags = {
  json: { kind: 'switch', help: 'print one JSON document and nothing else on standard output' },
  quiet: { kind: 'switch', help: 'show no progress' },
  config: {
    kind: 'path',
    value: 'FILE',
    help: 'flags from a JSON object, e.g. {"bits": 2}; flags given here count',
  },
  logFile: {
    kind: 'path',
    value: 'FILE',
    help: 'add progress, notes and result to a file, a JSON object a line',
  },
  progress: {
    kind: 'choice',
    choices: ['auto', 'json'],
    help: 'json: progress as one JSON object a line on standard error, with step, done (0 to 1) and secondsLeft',
    default: 'auto: a bar on a terminal, else lines',
  },
  help: { kind: 'switch', short: 'h', help: 'show this help' },
} as const satisfies FlagTable

export const engine = {
  kind: 'choice',
  choices: ['auto', 'wasm', 'cpu', 'tensorflow'] satisfies readonly EngineName[],
  help: 'what runs the model: wasm (embedded), cpu (plain JavaScript, slow), tensorflow (needs @tensorflow/tfjs-node)',
  default: 'auto: tensorflow when it loads, else wasm',
} as const satisfies Flag

export const products = {
  kind: 'choice',
  choices: ['wasm', 'blas', 'auto'] satisfies readonly ProductsName[],
  help: "what multiplies matrices: wasm (embedded), blas (the system's OpenBLAS or Accelerate, faster, other last bits; needs koffi), auto: blas when it loads",
  default: 'wasm',
} as const satisfies Flag

export const threads = {
  kind: 'whole',
  help: 'threads; the result does not depend on them',
  default: 'GPTVQ_THREADS, else the cores there are',
} as const satisfies Flag

export const redis = {
  kind: 'text',
  help: 'URL of a Redis server, e.g. redis://HOST: the workers there do most of the work (gptvq worker)',
} as const satisfies Flag

export const shared = {
  kind: 'path',
  value: 'DIR',
  help: 'a folder that all machines see: tensors go through it and not through Redis',
} as const satisfies Flag

const force = { kind: 'switch', help: 'replace a model folder that is already there' } as const satisfies Flag

const vectorFlags = {
  vectorDim: {
    kind: 'choice',
    choices: [1, 2, 4] satisfies readonly VqOptions['vectorDim'][],
    help: 'weights per vector',
    default: '2; with a trellis 1 from 3.875 bits per value on',
  },
  bits: {
    kind: 'number',
    word: 'mixed',
    help:
      'index bits per weight, 1 to 8, with a trellis any number such as 2.5; mixed: each layer gets its own, by its effect ' +
      'on the predictions, and --bpv (then 2.125 by default) is the budget of all layers together',
    default: '2; mixed where --bpv is given',
  },
  trellisBits: {
    kind: 'whole',
    help:
      'a trellis code: so many bits of the indices above name a centroid together with its own, up to 12 in all; ' +
      '0: plain codebooks, fitted to each layer',
    default: '12 less those of an index; 0 with flags that only plain codebooks have a use for',
  },
  indexWidths: {
    kind: 'choice',
    choices: ['fitted', 'same'] satisfies readonly VqOptions['indexWidths'][],
    help: "bits of a trellis' indices: longer ones in the columns that lose most, or --bits in all, which are then not mixed",
    default: 'fitted',
  },
  groupSize: {
    kind: 'whole',
    help:
      'weights that share a codebook (for gptq and rtn: a scale); with a trellis those of one start of its streams, at ' +
      'fewer than 64 rows a loss; excludes --bpv',
    default: 'chosen by --bpv, with a trellis about 256 rows; 128 for gptq and rtn',
  },
  columnsPerGroup: { kind: 'whole', help: 'columns per group', default: '256' },
  bpv: {
    kind: 'number',
    help:
      'bits per value at most, all stored bytes counted: sets the bits of indices, with plain codebooks the group size; ' +
      'without --bits, --set and --group-size bits are mixed (see --bits)',
    default: '--bits + 0.125',
  },
  codebookBits: {
    kind: 'choice',
    choices: [8, 16] satisfies readonly CodebookBits[],
    help: 'bits of a stored codebook element',
    default: '8',
  },
  scaleBlockSize: {
    kind: 'choice',
    choices: ['none', 16, 32, 64, 128] satisfies readonly VqOptions['scaleBlockSize'][],
    help: 'weights of a row that share a 4-bit scale',
    default:
      '64; none where --columns-per-group is no multiple of 64, or --bpv less than --bits + 0.1 (with a trellis than 1 / --vector-dim + 0.07)',
  },
  columnOrder: {
    kind: 'choice',
    choices: ['natural', 'activation'] satisfies readonly VqOptions['columnOrder'][],
    help: 'order in which columns are quantized; activation: by falling size of their inputs, and stored',
    default: 'natural',
  },
  kmeansIterations: { kind: 'whole', help: 'EM iterations per codebook at most', default: '100' },
  kmeansTolerance: {
    kind: 'number',
    help: 'EM stops when an iteration lowers the loss by no more than this share',
    default: '0.0001',
  },
  kmeansInit: {
    kind: 'choice',
    choices: ['mahalanobis', 'kmeans++', 'cdf'] satisfies readonly KmeansInit[],
    help: 'how the first centroids are chosen; cdf works with --vector-dim 1 only',
    default: 'kmeans++',
  },
  restarts: {
    kind: 'whole',
    help: 'tries per codebook, of which the best is kept; 1 without --kmeans-init kmeans++',
    default: '3',
  },
  damping: {
    kind: 'number',
    help: "share of the mean of the Hessian's diagonal that is added to it; 0.01 for gptq",
    default: '0.1',
  },
  vectorMetric: {
    kind: 'choice',
    choices: ['full', 'diagonal'] satisfies readonly VectorMetric[],
    help: 'how a vector measures its distance to a centroid',
    default: 'full',
  },
  codebookUpdateSteps: {
    kind: 'whole',
    help: 'steps that move the codebooks at most, one in each round of refinement; 0 for none',
    default: '32',
  },
  refinementRounds: {
    kind: 'whole',
    help: 'rounds of refinement of indices, codebooks and scales at most, 0 for none',
    default: '8',
  },
  refinementTolerance: {
    kind: 'number',
    help: 'refinement stops when a round lowers the loss by no more than this share',
    default: '0.002',
  },
  seed: {
    kind: 'whole',
    help: 'seed of all random choices; the same seed gives the same bytes, on the same version of Node',
    default: '0',
  },
} as const satisfies Record<keyof VqOptions, Flag>

const { seed: _, ...ofLayers } = vectorFlags
/** Flags that single layers can have. */
const layerFlags: FlagTable = {
  ...ofLayers,
  ...scalarFlags,
  bits: { kind: 'number', help: vectorFlags.bits.help },
}

export const quantizeFlags = {
  out: { kind: 'path', value: 'DIR', required: true, help: 'the folder to write' },
  calibration: {
    kind: 'path',
    value: 'FILE',
    help: 'UTF-8 text that shows the model at work, - for standard input',
    default: 'the model writes its own',
  },
  method: {
    kind: 'choice',
    choices: ['gptvq', 'gptq', 'rtn'] satisfies readonly QuantizeModelOptions['method'][],
    help: 'vectors with a codebook, or the scalar methods it is held against',
    default: 'gptvq',
  },
  ...vectorFlags,
  ...scalarFlags,
  ...activationFlags,
  layerOrder: {
    kind: 'choice',
    choices: ['sequential', 'block'] satisfies readonly LayerOrder[],
    help: 'calibrate a layer on what all quantized layers before it give, or the quantized blocks before its own',
    default: 'sequential; block for gptq, unless --scale-search sequential-mse',
  },
  driftCorrection: {
    kind: 'number',
    help: 'share, 0 to 1, of the drift from the full model that layers make up for where it is no noise; 0 is faster',
    default: '1; 0 for gptq and rtn',
  },
  tokenWeights: {
    kind: 'choice',
    choices: ['attention', 'equal'] satisfies readonly TokenWeighting[],
    help: 'tokens count for layers of keys and values as much as attention looks at them, or all the same',
    default: 'attention; equal for gptq and rtn',
  },
  tuningEpochs: {
    kind: 'whole',
    help: 'tune scales or codebooks of all layers together for so many epochs at most; takes several times as long',
    default: '0',
  },
  tuningSequences: {
    kind: 'whole',
    help: 'sequences to tune on that the model writes itself, beside the calibration sequences',
    default: '256',
  },
  skip: {
    kind: 'patterns',
    help: "leave layers that match in full precision, e.g. '*.down_proj'; can be given several times",
    default: 'none',
  },
  set: {
    kind: 'settings',
    table: layerFlags,
    help: "settings of layers that match, e.g. '*.v_proj:bits=3' or '*.v_proj:grid=symmetric'; several with commas; can be given several times",
    default: 'none',
  },
  ...endFlags,
  sequences: { kind: 'whole', help: 'calibration sequences at most', default: '128' },
  sequenceLength: {
    kind: 'whole',
    help: "tokens per calibration sequence; never more than the model's context",
    default: '2048',
  },
  report: { kind: 'path', value: 'FILE', help: 'write an HTML page on the result too, as gptvq report does' },
  ...longRunFlags,
  engine,
  products,
  threads,
  redis,
  shared,
  force,
  maxShardBytes: {
    kind: 'bytes',
    help: 'bytes of tensors in one file, e.g. 5e9, 500MB or 2GiB',
    default: '5GB',
  },
} as const satisfies FlagsOf<QuantizeModelOptions & { report?: string }>

export const evalFlags = {
  text: {
    kind: 'path',
    value: 'FILE',
    required: true,
    help: 'UTF-8 text that calibration has not seen, - for standard input',
  },
  reference: {
    kind: 'path',
    value: 'MODEL',
    help: 'the model in full precision: adds KL divergence and top-1 agreement',
  },
  context: { kind: 'whole', help: 'tokens per window', default: "the model's context, 2048 at most" },
  windows: { kind: 'whole', help: 'windows at most, from the start of the text on', default: 'all' },
  continuations: {
    kind: 'whole',
    help: 'so many texts that both models write on, up to where they part; needs --reference',
    default: '0',
  },
  engine,
  products,
  threads,
} as const satisfies FlagsOf<EvaluateModelOptions>

export const inspectFlags = {} as const satisfies FlagTable

export const reportFlags = {
  out: { kind: 'path', value: 'FILE', required: true, help: 'the HTML file to write' },
  reference: {
    kind: 'path',
    value: 'MODEL',
    help: 'the model in full precision: its weights are drawn under the codebooks',
  },
  codebooks: {
    kind: 'whole',
    help: 'codebooks to draw at most, from the layer of the least error to that of the greatest',
    default: '3',
  },
  force: { kind: 'switch', help: 'replace a report that is already there' },
} as const satisfies FlagsOf<Omit<WriteReportOptions, 'run'>>

export const dequantizeFlags = {
  out: { kind: 'path', value: 'DIR', required: true, help: 'the folder to write' },
  dtype: {
    kind: 'choice',
    choices: ['F32', 'F16', 'BF16'] satisfies readonly PlainDtype[],
    help: 'how the weights are stored; F32 keeps every value bit for bit',
    default: 'what each weight was before',
  },
  force,
  maxShardBytes: quantizeFlags.maxShardBytes,
} as const satisfies FlagsOf<DequantizeModelOptions>
