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
const granularities = ['channel', 'group'] as const

function scalarRows(method: 'rtn' | 'gptq'): ToolboxRow[] {
  return [2, 3, 4].flatMap((bits) =>
    granularities.flatMap((granularity) =>
      searches.map((scaleSearch) => ({
        label: `${method} ${bits} bits, per ${granularity}, ${scaleSearch}`,
        options: { method, bits, granularity, scaleSearch },
      })),
    ),
  )
}

const ranges = ['token', 'minmax', 'percentile', 'sqnr'] as const

const activationRows: ToolboxRow[] = [
  { label: 'w4a16', options: { scheme: 'w4a16' } },
  ...(['w8a8', 'w4a8'] as const).flatMap((scheme) =>
    ranges.map((activationRange) => ({
      label: `${scheme}, ${activationRange}`,
      options: { scheme, activationRange },
    })),
  ),
  { label: 'w8a8, token, cache 8 bits', options: { scheme: 'w8a8', cacheBits: 8 } },
  { label: 'w8a8, token, cache 4 bits', options: { scheme: 'w8a8', cacheBits: 4 } },
]

const equalizationRows: ToolboxRow[] = (['minmax', 'sqnr'] as const).flatMap((activationRange) => [
  { label: `w4a8, ${activationRange}`, options: { scheme: 'w4a8', activationRange } as const },
  ...([0.25, 0.5, 0.75] as const).map((equalizationStrength) => ({
    label: `w4a8, ${activationRange}, smoothquant ${equalizationStrength}`,
    options: { scheme: 'w4a8', activationRange, equalization: 'smoothquant', equalizationStrength } as const,
  })),
  {
    label: `w4a8, ${activationRange}, cross-layer`,
    options: { scheme: 'w4a8', activationRange, equalization: 'cross-layer' } as const,
  },
])

export const toolboxTables: readonly ToolboxTable[] = [
  { id: 'rtn', rows: scalarRows('rtn') },
  { id: 'gptq', rows: scalarRows('gptq') },
  { id: 'activations', rows: activationRows },
  { id: 'equalization', rows: equalizationRows },
]
