import type { TuningReport } from 'gptvq/model'
import type { ReferenceRow } from '../common/reference-data.js'
import { tableOfCells } from '../common/report.js'
import type { AblationRow, AblationTable } from './ablation-rows.js'

/** What one run of a row gave. */
export interface MeasuredRow {
  readonly seed: number
  readonly bitsPerValue: number
  /** Of quantization, tuning included; evaluation left out. */
  readonly seconds: number
  /** Mean of what `quantizeModel` reports: on the inputs of the own run, towards the weights corrected for drift. */
  readonly ownError: number
  /** Mean over the layers, on inputs of the full model from the calibration text, towards the model's weights. */
  readonly calibrationError: number
  /** The same from held-out text. */
  readonly heldOutError: number
  readonly klDivergence: number
  readonly perplexity: number
  readonly top1Agreement: number
  readonly tuning: TuningReport | null
}

interface RowRuns {
  readonly row: AblationRow
  /** A run per seed. */
  readonly measured: readonly MeasuredRow[]
}

/** A table as Markdown, and the name of the section that it belongs to. */
export function ablationMarkdown(
  table: AblationTable,
  runs: readonly RowRuns[],
  reference: readonly ReferenceRow[],
): { id: string; text: string } {
  const compared = runs.some(({ row }) => row.reference !== undefined)
  const header = [
    'setting',
    'bits',
    'KL',
    ...(compared ? ['to reference', 'seeds'] : ['seeds']),
    'top-1',
    'perplexity',
    'layer error',
    ...(compared ? ['to reference'] : []),
    'full inputs, calibration',
    'full inputs, held out',
    'seconds',
  ]
  const rows = runs
    .filter(({ measured }) => measured.length > 0)
    .map((run) => cells(run, reference, compared))
  return { id: table.id, text: [tableOfCells(header, rows, 1), ...tuningMarkdown(runs)].join('\n\n') }
}

/** How the divergence fell from epoch to epoch in the rows that were tuned, on both parts of the tuning text. */
function tuningMarkdown(runs: readonly RowRuns[]): string[] {
  const tuned = runs.flatMap(({ row, measured }) => {
    const reports = measured.flatMap(({ tuning }) => tuning ?? [])
    return reports.length > 0 ? [{ label: row.label, reports }] : []
  })
  if (tuned.length === 0) return []
  const epochs = Math.max(...tuned.flatMap(({ reports }) => reports.map((report) => report.epochs.length)))
  const numbers = Array.from({ length: epochs }, (_, epoch) => epoch)
  const curve = (reports: readonly TuningReport[], part: 'training' | 'heldOut') =>
    numbers.map((epoch) => {
      const values = reports.flatMap((report) => report.epochs[epoch]?.[part] ?? [])
      return values.length > 0
        ? (values.reduce((sum, value) => sum + value, 0) / values.length).toFixed(4)
        : ''
    })
  const header = ['KL by epoch', 'on', ...numbers.map((epoch) => (epoch === 0 ? 'before' : `${epoch}`))]
  const rows = tuned.flatMap(({ label, reports }) => [
    [label, 'tuning text', ...curve(reports, 'training')],
    [label, 'text held out from it', ...curve(reports, 'heldOut')],
  ])
  return [tableOfCells(header, rows, 2)]
}

function cells({ row, measured }: RowRuns, reference: readonly ReferenceRow[], compared: boolean): string[] {
  const mean = (key: keyof MeasuredRow) =>
    measured.reduce((sum, run) => sum + (run[key] as number), 0) / measured.length
  const published = reference.find(({ name }) => name === row.reference)
  const ratio = (value: number, of: number | undefined) =>
    of === undefined ? '' : `**${(value / of).toFixed(3)}**`
  const seeds = measured.map(({ klDivergence }) => klDivergence.toFixed(4)).join(', ')
  return [
    row.label,
    mean('bitsPerValue').toFixed(3),
    mean('klDivergence').toFixed(4),
    ...(compared ? [ratio(mean('klDivergence'), published?.kl), seeds] : [seeds]),
    `${(100 * mean('top1Agreement')).toFixed(1)} %`,
    mean('perplexity').toFixed(1),
    mean('ownError').toFixed(5),
    ...(compared ? [ratio(mean('ownError'), published?.mean_layer_error)] : []),
    mean('calibrationError').toFixed(5),
    mean('heldOutError').toFixed(5),
    mean('seconds').toFixed(0),
  ]
}
