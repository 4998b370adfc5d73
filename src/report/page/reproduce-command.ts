import type { ReportData } from './report-data.js'
import { settingFlags } from './setting-flags.js'

/**
 * The call of the command line that makes the same folder; `MODEL` and `FILE` stand for what is not known. The same
 * model, text, version of the package and of Node, engine and kind of processor give the same bytes.
 */
export function reproduceCommand({
  model,
  source,
  method,
  settings,
  calibration,
  made = {},
}: ReportData): string {
  const parts = [
    'gptvq quantize',
    quoted(source ?? 'MODEL'),
    '--out',
    quoted(model),
    '--method',
    quoted(method),
  ]
  const text = (made.calibration ?? {}) as { readonly kind?: unknown; readonly file?: unknown }
  const file = calibration?.file ?? (typeof text.file === 'string' ? text.file : 'FILE')
  if (looksAtText({ method, settings }) && text.kind !== 'own') parts.push('--calibration', quoted(file))
  if (calibration !== undefined && settings.sequences === undefined) {
    parts.push('--sequences', String(calibration.sequences), '--sequence-length', String(calibration.length))
  }
  // defaults that are spelt out are checked more strictly than those left to each layer
  const given = (made.options ?? settings) as Readonly<Record<string, unknown>>
  for (const [name, value] of settingFlags(given)) parts.push(`--${name}`, quoted(value))
  if (typeof made.engine === 'string') parts.push('--engine', quoted(made.engine))
  return parts.join(' ')
}

/** Whether the layers were quantized on activations. */
export function looksAtText({ method, settings }: Pick<ReportData, 'method' | 'settings'>): boolean {
  const { scaleSearch, activationRange = 'token', equalization } = settings
  if (method !== 'rtn' || scaleSearch === 'sequential-mse') return true
  return activationRange !== 'token' || equalization === 'smoothquant'
}

/** An argument as one types it in a shell. */
function quoted(text: string): string {
  return /^[\w@%+=:,./\\~-]+$/.test(text) ? text : `"${text.replace(/["$`]/g, '\\$&')}"`
}
