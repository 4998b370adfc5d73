import type { QuantizeModelOptions } from 'gptvq/model'

/** Settings whose effect on a whole model is measured. */
export interface AblationRow {
  readonly label: string
  readonly options: Partial<QuantizeModelOptions>
  /** Row of the published reference code that it is held against. */
  readonly reference?: string
  /** Calibration sequences, default 64 as in the reference's protocol. */
  readonly sequences?: number
  /** Default: those of the table. */
  readonly seeds?: readonly number[]
}

/** A trellis draws nothing by chance: all seeds end alike. */
const drawsNothing = { seeds: [0] } as const

export interface AblationTable {
  readonly id: string
  readonly title: string
  readonly seeds: readonly number[]
  /** Evaluation windows of 256 tokens. */
  readonly windows: number
  readonly rows: readonly AblationRow[]
}

/** The published method, as near as the options come: no step of this library's own. */
const published = {
  trellisBits: 0,
  vectorMetric: 'diagonal',
  kmeansInit: 'mahalanobis',
  kmeansTolerance: 0,
  damping: 0.01,
  refinementRounds: 0,
  scaleBlockSize: 'none',
  layerOrder: 'block',
  driftCorrection: 0,
  tokenWeights: 'equal',
} as const

const steps: readonly (readonly [label: string, options: Partial<QuantizeModelOptions>])[] = [
  ['full metric', { vectorMetric: 'full' }],
  ['k-means++ seeds, EM that settles', { kmeansInit: 'kmeans++', kmeansTolerance: 1e-4, restarts: 1 }],
  ['3 tries per codebook', { kmeansInit: 'kmeans++', restarts: 3 }],
  ['refinement, 8 rounds', { refinementRounds: 8 }],
  ['damping 0.1', { damping: 0.1 }],
  ['block scales of 64, as many bits in all', { scaleBlockSize: 64 }],
  ['sequential order', { layerOrder: 'sequential' }],
  ['drift correction', { driftCorrection: 1 }],
  ['tokens as attention looks at them', { tokenWeights: 'attention' }],
]

/** Takes back what belongs to plain codebooks. */
const fixedCodebook = {
  kmeansInit: undefined,
  kmeansTolerance: undefined,
  restarts: undefined,
  codebookUpdateSteps: undefined,
} as const

/** From codebooks fitted to each layer to a constant one, named by a trellis. */
const trellisSteps: readonly (readonly [label: string, options: Partial<QuantizeModelOptions>])[] = [
  ['trellis of 12 bits', { ...fixedCodebook, trellisBits: 8, indexWidths: 'same' }],
  ['index widths by column', { indexWidths: 'fitted' }],
  ['mixed bits (default where bpv is given)', { bits: 'mixed' }],
]

/** One setting of each kind that the reference has. */
const settings: readonly AblationRow[] = (
  [
    { label: '1-D 2 bits', options: { vectorDim: 1, bits: 2, bpv: 2.125 }, reference: 'gptvq 1d 2.125' },
    { label: '2-D 2 bits', options: { bits: 2, bpv: 2.125 }, reference: 'gptvq 2d 2.125' },
    { label: '2-D 2 bits', options: { bits: 2, bpv: 2.25 }, reference: 'gptvq 2d 2.25' },
    { label: '2-D 3 bits', options: { bits: 3, bpv: 3.125 }, reference: 'gptvq 2d 3.125' },
    {
      label: '4-D 2 bits',
      options: { vectorDim: 4, bits: 2, bpv: 2.25 },
      reference: 'gptvq 4d 2.25 (10 EM iterations)',
    },
    {
      label: '2-D 2 bits, scales of 32',
      options: { bits: 2, scaleBlockSize: 32, bpv: 2.1875 },
      reference: 'gptvq 2d 2.125 scales32',
    },
  ] satisfies AblationRow[]
).map((row) => ({ ...row, ...drawsNothing }))

/** The same with codebooks fitted to each layer. */
const plainSettings: readonly AblationRow[] = settings
  .filter(({ options }) => (options.vectorDim ?? 2) === 2 && options.scaleBlockSize === undefined)
  .map(({ label, options, ...row }) => ({
    ...row,
    label: `plain ${label}`,
    options: { ...options, trellisBits: 0 },
    seeds: [0, 1],
  }))

/** All tables, the targets first. */
export const ablationTables: readonly AblationTable[] = [
  {
    id: 'reference',
    title: 'Against the published code',
    seeds: [0, 1],
    windows: 200,
    rows: [
      ...settings,
      ...plainSettings,
      {
        label: '2-D 2 bits, no scales',
        options: { bits: 2, bpv: 2.125, scaleBlockSize: 'none' },
        reference: 'gptvq 2d 2.125',
        ...drawsNothing,
      },
    ],
  },
  {
    id: 'cumulative',
    title: 'One step after the other',
    seeds: [0, 1],
    windows: 100,
    rows: [
      { label: 'as published', options: { ...published, bits: 2 } },
      ...[...steps, ...trellisSteps].map(([label], i, all) => ({
        label: `+ ${label}`,
        ...(i < steps.length ? {} : drawsNothing),
        options: Object.assign(
          { bits: 2, bpv: 2.125 },
          published,
          ...all.slice(0, i + 1).map(([, options]) => options),
        ),
      })),
    ],
  },
  {
    id: 'tall',
    title: 'Codebooks that serve many rows',
    seeds: [0, 1],
    windows: 100,
    rows: [
      [17, 256],
      [80, 64],
      [160, 64],
    ].map(([rows, columnsPerGroup]) => ({
      label: `${rows} rows of ${columnsPerGroup} columns`,
      options: { bits: 2, trellisBits: 0, columnsPerGroup, groupSize: rows * columnsPerGroup },
    })),
  },
  {
    id: 'drift',
    title: 'Share of the drift that is made up for',
    ...drawsNothing,
    windows: 100,
    rows: [0, 0.3, 0.6, 0.8, 1].map((driftCorrection) => ({
      label: `${driftCorrection}`,
      options: { bits: 2, driftCorrection },
    })),
  },
  {
    id: 'alone',
    title: 'Each step alone',
    seeds: [0, 1],
    windows: 100,
    rows: [
      { label: 'published, no codebook update', options: { ...published, codebookUpdateSteps: 0 } },
      ...steps.map(([label, options]) => ({ label, options: { ...published, ...options } })),
      { label: 'activation order', options: { ...published, columnOrder: 'activation' } },
      { label: '16-bit codebooks', options: { ...published, codebookBits: 16 } },
    ],
  },
  {
    id: 'mixed',
    title: 'Mixed bits',
    ...drawsNothing,
    windows: 200,
    rows: [
      { label: '2-D, at most 2.125', options: { bits: 'mixed', bpv: 2.125 }, reference: 'gptvq 2d 2.125' },
      { label: '2-D, at most 2.25', options: { bits: 'mixed', bpv: 2.25 }, reference: 'gptvq 2d 2.25' },
      { label: '2-D, at most 2.5', options: { bits: 'mixed', bpv: 2.5 } },
      { label: '2-D, at most 3.125', options: { bits: 'mixed', bpv: 3.125 }, reference: 'gptvq 2d 3.125' },
    ],
  },
  {
    id: 'text',
    title: 'With more text, and tuned',
    seeds: [0, 1],
    windows: 200,
    rows: [
      {
        label: '256 calibration sequences',
        options: { bits: 2, bpv: 2.125 },
        sequences: 256,
        reference: 'gptvq 2d 2.125',
        ...drawsNothing,
      },
      {
        label: '256, mixed',
        options: { bits: 'mixed', bpv: 2.125 },
        sequences: 256,
        reference: 'gptvq 2d 2.125',
        ...drawsNothing,
      },
      {
        label: '256, mixed, tuned on these',
        options: { bits: 'mixed', bpv: 2.125, tuningEpochs: 2, tuningSequences: 0 },
        sequences: 256,
        reference: 'gptvq 2d 2.125',
        ...drawsNothing,
      },
      {
        label: '256, tuned on these',
        options: { bits: 2, bpv: 2.125, tuningEpochs: 2, tuningSequences: 0 },
        sequences: 256,
        reference: 'gptvq 2d 2.125',
        ...drawsNothing,
      },
      {
        label: '64, tuned on these alone',
        options: { bits: 2, bpv: 2.125, tuningEpochs: 2, tuningSequences: 0 },
        reference: 'gptvq 2d 2.125',
        ...drawsNothing,
      },
      {
        label: '64, tuned on 256 that the model wrote',
        options: { bits: 2, bpv: 2.125, tuningEpochs: 2 },
        reference: 'gptvq 2d 2.125',
      },
    ],
  },
  {
    id: 'more-text',
    title: 'Other settings with more text',
    seeds: [0, 1],
    windows: 200,
    rows: [...settings.filter(({ options }) => options.bpv !== 2.125 || options.vectorDim === 1)].map(
      (row) => ({ ...row, sequences: 256 }),
    ),
  },
]
