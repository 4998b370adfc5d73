import { requireFields } from '../../common/check-option.js'
import type { ReportData } from './report-data.js'
import { settingFlags } from './setting-flags.js'

/**
 * The call of the command line that makes the same folder; `MODEL` and `FILE` stand for what is not known. The same
 * model, text, version of the package and of Node, engine and kind of processor give the same bytes.
 */
export function reproduceCommand(data: ReportData): string {
  requireFields(data, 'data that reportData gave', ['settings'])
  const { model, source, method, settings, calibration, made = {} } = data
  const command = made.command === 'train' || made.command === 'quantize-tensors' ? made.command : 'quantize'
  const parts = [`gptvq ${command}`, quoted(source ?? 'MODEL'), '--out', quoted(model)]
  parts.push('--method', quoted(command === 'train' ? trainingMethod(settings) : method))
  const text = (made.calibration ?? {}) as { readonly kind?: unknown }
  const file = calibrationFile(data) ?? 'FILE'
  if (command === 'train') parts.push('--text', quoted(file))
  else if (looksAtText({ method, settings, made }) && text.kind !== 'own')
    parts.push('--calibration', quoted(file))
  if (calibration !== undefined && settings.sequences === undefined) {
    parts.push('--sequences', String(calibration.sequences), '--sequence-length', String(calibration.length))
  }
  // defaults that are spelt out are checked more strictly than those left to each layer
  const given = (made.options ?? settings) as Readonly<Record<string, unknown>>
  for (const [name, value] of settingFlags(given)) parts.push(`--${name}`, quoted(value))
  if (typeof made.engine === 'string') parts.push('--engine', quoted(made.engine))
  return parts.join(' ')
}

/** What was trained, which the settings of a trained folder keep beside those it began with. */
function trainingMethod({ training }: ReportData['settings']): string {
  const { method } = (training ?? {}) as { readonly method?: unknown }
  return typeof method === 'string' ? method : 'METHOD'
}

/** The name of the calibration text, as far as it is known. */
export function calibrationFile({ calibration, made = {} }: ReportData): string | undefined {
  const { file } = (made.calibration ?? {}) as { readonly file?: unknown }
  return calibration?.file ?? (typeof file === 'string' ? file : undefined)
}

/** Whether the layers were quantized on activations. */
export function looksAtText({
  method,
  settings,
  made = {},
}: Pick<ReportData, 'method' | 'settings' | 'made'>): boolean {
  if (made.command === 'quantize-tensors') return false
  const { scaleSearch, activationRange = 'token', equalization } = settings
  if (method !== 'rtn' || scaleSearch === 'sequential-mse') return true
  return activationRange !== 'token' || equalization === 'smoothquant' || equalization === 'auto'
}

/** An argument as one types it in a shell. */
function quoted(text: string): string {
  return /^[\w@%+=:,./\\~-]+$/.test(text) ? text : `"${text.replace(/["$`]/g, '\\$&')}"`
}
