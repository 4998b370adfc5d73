import type { QuantizeModelOptions } from 'gptvq/model'

/** A way to quantize the model, by the row of the table that it fills. */
export interface ToolboxRow {
  readonly label: string
  readonly options: Partial<QuantizeModelOptions>
}

/** Rows that belong together. */
export interface ToolboxTable {
  readonly id: string
  readonly rows: readonly ToolboxRow[]
}

const searches = ['minmax', 'mse', 'sequential-mse'] as const

function scalarRows(method: 'rtn' | 'gptq', granularities: readonly ('channel' | 'group')[]): ToolboxRow[] {
  return [2, 3, 4].flatMap((bits) =>
    granularities.flatMap((granularity) =>
      searches.map((scaleSearch) => ({
        label: `${method} ${bits} bits, per ${granularity}, ${scaleSearch}`,
        options: { method, bits, granularity, scaleSearch },
      })),
    ),
  )
}

/** Sequential MSE towards weights that make up for what the layers before have lost. */
const driftRows: ToolboxRow[] = [2, 3, 4].map((bits) => ({
  label: `rtn ${bits} bits, per channel, sequential-mse, drift corrected`,
  options: { method: 'rtn', bits, granularity: 'channel', scaleSearch: 'sequential-mse', driftCorrection: 1 },
}))

const ranges = ['token', 'minmax', 'percentile', 'sqnr'] as const

const activationRows: ToolboxRow[] = [
  { label: 'w4a16', options: { scheme: 'w4a16' } },
  ...ranges.map((activationRange) => ({
    label: `w8a8, ${activationRange}`,
    options: { scheme: 'w8a8', activationRange } as const,
  })),
  { label: 'w8a8, token, cache 8 bits', options: { scheme: 'w8a8', cacheBits: 8 } },
  { label: 'w8a8, token, cache 4 bits', options: { scheme: 'w8a8', cacheBits: 4 } },
]

const smooth = (
  scheme: 'w8a8' | 'w4a8',
  activationRange: 'token' | 'minmax',
  equalizationStrength: number,
): ToolboxRow => ({
  label: `${scheme}, ${activationRange}, smoothquant ${equalizationStrength}`,
  options: { scheme, activationRange, equalization: 'smoothquant', equalizationStrength },
})

const auto = (scheme: 'w8a8' | 'w4a8', activationRange: 'token' | 'minmax'): ToolboxRow => ({
  label: `${scheme}, ${activationRange}, auto`,
  options: { scheme, activationRange, equalization: 'auto' },
})

const equalizationRows: ToolboxRow[] = [
  { label: 'w8a8, minmax', options: { scheme: 'w8a8', activationRange: 'minmax' } },
  smooth('w8a8', 'minmax', 0.5),
  auto('w8a8', 'minmax'),
  { label: 'w4a8, token', options: { scheme: 'w4a8', activationRange: 'token' } },
  smooth('w4a8', 'token', 0.5),
  { label: 'w4a8, token, cross-layer', options: { scheme: 'w4a8', equalization: 'cross-layer' } },
  auto('w4a8', 'token'),
  { label: 'w4a8, minmax', options: { scheme: 'w4a8', activationRange: 'minmax' } },
  ...[0.25, 0.5, 0.75].map((strength) => smooth('w4a8', 'minmax', strength)),
  auto('w4a8', 'minmax'),
]

export const toolboxTables: readonly ToolboxTable[] = [
  { id: 'rtn', rows: [...scalarRows('rtn', ['channel', 'group']), ...driftRows] },
  { id: 'gptq', rows: scalarRows('gptq', ['channel', 'group']) },
  { id: 'activations', rows: activationRows },
  { id: 'equalization', rows: equalizationRows },
]
