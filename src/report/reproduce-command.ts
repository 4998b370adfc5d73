import type { ReportData } from './report-data.js'
import { settingFlags } from './setting-flags.js'

/** The call of the command line that makes the same folder; `MODEL` and `FILE` stand for what is not known. */
export function reproduceCommand({ model, source, method, settings, calibration }: ReportData): string {
  const parts = [
    'gptvq quantize',
    quoted(source ?? 'MODEL'),
    '--out',
    quoted(model),
    '--method',
    quoted(method),
  ]
  if (method !== 'rtn') parts.push('--calibration', quoted(calibration?.file ?? 'FILE'))
  if (calibration !== undefined) {
    parts.push('--sequences', String(calibration.sequences), '--sequence-length', String(calibration.length))
  }
  for (const [name, value] of settingFlags(settings)) parts.push(`--${name}`, quoted(value))
  return parts.join(' ')
}

/** An argument as one types it in a shell. */
function quoted(text: string): string {
  return /^[\w@%+=:,./\\~-]+$/.test(text) ? text : `"${text.replace(/["$`]/g, '\\$&')}"`
}
