import { requireObject } from '../../common/check-option.js'
import { empty, html, type Markup } from '../drawing/markup.js'
import { formatNumber, formatWhole } from '../drawing/text.js'
import { formatBytes, formatSeconds } from '../drawing/units.js'
import { describeExpertTokens } from './expert-tokens.js'
import { htmlDocument } from './html-document.js'
import { checkReportData, type ReportData, type ReportLayer } from './report-data.js'
import {
  codebookFigures,
  comparisonFigure,
  convergenceFigures,
  errorFigures,
  section,
  usageFigures,
} from './report-figures.js'
import { breakable, byteTable, layerTable } from './report-table.js'
import { calibrationFile, looksAtText, reproduceCommand } from './reproduce-command.js'

/**
 * The report of a quantized checkpoint as one HTML page that needs nothing else: summary, bytes before and after,
 * errors by layer, a table of layers that can be sorted, codebooks, use of indices, settings, and the command to
 * reproduce. Readable in light and dark, on a phone, and in print. The same data give the same text.
 *
 * @throws OptionError naming the field that cannot be right
 */
export function reportHtml(data: ReportData): string {
  requireObject('data', data)
  checkReportData(data)
  const title = `${data.model}: quantization report`
  const generator = data.version === undefined ? 'gptvq' : `gptvq ${data.version}`
  const main = html`${header(data)}${section('Bytes before and after', byteTable(data), bitsNote(data))}${section('Errors by layer', errorFigures(data))}${section('Layers', layerTable(data))}${section('Codebooks', codebookFigures(data))}${section('Use of the codebooks', usageFigures(data))}${section('Convergence', convergenceFigures(data))}${section('Comparison', comparisonFigure(data))}${section('Settings', settingsList(data))}${section('Reproduce', commandBlock(data))}<footer>Written by ${generator}. Bits and bytes are counted from what is stored.</footer>
`
  return htmlDocument(title, generator, main)
}

function header(data: ReportData): Markup {
  const { model, architecture, method, layers } = data
  const what = architecture === undefined ? 'A model' : architecture
  const formats = new Set(layers.map(({ format }) => format))
  const stored = formats.size === 1 ? `, stored as ${layers[0].format}` : ''
  const count = `${formatWhole(layers.length)} linear ${layers.length === 1 ? 'layer' : 'layers'}`
  return html`<header>
<h1>${model}</h1>
<p class="lead">${what}, ${count} quantized by ${method.toUpperCase()}${stored}.</p>
<dl class="cards">${cards(data)}</dl>
</header>
`
}

function cards(data: ReportData): Markup[] {
  const { layers, scores = [], seconds } = data
  const after = sum(layers, ({ bytes }) => bytes)
  const before = sum(layers, ({ bytesBefore }) => bytesBefore)
  const values = sum(layers, ({ rows, cols }) => rows * cols)
  const shown = [
    card('Bits per value', ((8 * after) / values).toFixed(3), `of ${((8 * before) / values).toFixed(1)}`),
    card('Quantized layers', formatBytes(after), `of ${formatBytes(before)}`),
    ...errorCards(layers),
    ...scores.map(({ name, value }) => card(name, formatNumber(value), '')),
  ]
  if (seconds !== undefined) {
    const parts = `calibration ${formatSeconds(seconds.calibration)}, quantization ${formatSeconds(seconds.quantization)}`
    shown.push(card('Time', formatSeconds(seconds.total), parts))
  }
  return shown
}

function errorCards(layers: readonly ReportLayer[]): Markup[] {
  const measured = layers.flatMap(({ name, relativeError }) =>
    relativeError === null ? [] : [{ name, relativeError }],
  )
  if (measured.length === 0) return []
  const worst = measured.reduce((most, layer) => (layer.relativeError > most.relativeError ? layer : most))
  const mean = sum(measured, ({ relativeError }) => relativeError) / measured.length
  return [
    card('Mean relative error', formatNumber(mean), 'of the outputs of a layer'),
    card('Worst layer', formatNumber(worst.relativeError), breakable(worst.name)),
  ]
}

function card(name: string, figure: string, more: string | Markup): Markup {
  return html`<div><dt>${name}</dt><dd class="figure">${figure}</dd><dd class="more">${more}</dd></div>\n`
}

/** What the bits per value are spent on, where every layer says so. */
function bitsNote({ layers }: ReportData): Markup {
  const values = sum(layers, ({ rows, cols }) => rows * cols)
  const parts = [
    ['indices', 'index'],
    ['codebooks', 'codebook'],
    ['scales', 'scale'],
    [restOf(layers), 'other'],
  ] as const
  const said: string[] = []
  for (const [name, field] of parts) {
    let bits = 0
    for (const { rows, cols, bitsPerValue } of layers) {
      if (bitsPerValue === undefined) return empty
      bits += rows * cols * bitsPerValue[field]
    }
    if (bits > 0) said.push(`${name} ${(bits / values).toFixed(4)}`)
  }
  return html`<p class="note">Bits per value by use: ${said.join(', ')}.</p>`
}

/** What layers store besides. */
function restOf(layers: ReportData['layers']): string {
  const isVector = ({ format }: ReportData['layers'][number]) => format.startsWith('vq')
  if (layers.every(isVector)) return 'widths and order of columns'
  return layers.some(isVector) ? 'other' : 'zero points'
}

function settingsList({ settings, calibration, experts }: ReportData): Markup {
  const { training, ...others } = settings
  const ofTraining = Object.entries(training ?? {}).map(
    ([name, value]) => [`training: ${name}`, value] as const,
  )
  const entries = [...Object.entries(others), ...ofTraining]
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => [name, typeof value === 'object' ? JSON.stringify(value) : String(value)])
  if (calibration !== undefined) {
    const { sequences, length, notes } = calibration
    entries.push(['calibration', `${formatWhole(sequences)} sequences of ${formatWhole(length)} tokens`])
    for (const note of notes) entries.push(['', note])
  }
  if (experts !== undefined) entries.push(['experts', describeExpertTokens(experts)])
  return html`<dl class="pairs">${entries.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>\n`)}</dl>`
}

function commandBlock(data: ReportData): Markup {
  const command = data.command ?? reproduceCommand(data)
  const flags = command.split(/ (?=--)/)
  const places = [
    ...(data.source === undefined ? ['MODEL is the folder of the original model'] : []),
    ...(looksAtText(data) && calibrationFile(data) === undefined
      ? ['FILE is the calibration text; leave --calibration out if the model wrote its own']
      : []),
  ]
  const note =
    data.command !== undefined || places.length === 0
      ? empty
      : html`<p class="note">${places.join('; ')}. A quantized folder does not keep that.</p>`
  return html`<pre tabindex="0"><code>${flags.map((flag, i) => html`${i === 0 ? '' : ' '}<span class="flag">${flag}</span>`)}</code></pre>
${note}`
}

function sum<T>(values: readonly T[], of: (value: T) => number): number {
  return values.reduce((total, value) => total + of(value), 0)
}
