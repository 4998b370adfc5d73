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

export const toolboxTables: readonly ToolboxTable[] = [
  { id: 'rtn', rows: scalarRows('rtn') },
  { id: 'gptq', rows: scalarRows('gptq') },
]
