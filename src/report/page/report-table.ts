import { empty, html, type Markup } from '../drawing/markup.js'
import { formatNumber } from '../drawing/text.js'
import { formatBytes } from '../drawing/units.js'
import type { ReportData, ReportLayer } from './report-data.js'

/** A column of the table of layers. */
interface Column {
  readonly title: string
  readonly kind: 'text' | 'number'
  /** Left out where the screen is narrow. */
  readonly minor?: true
  /** Left out where all layers have the same. */
  readonly unlessSame?: true
  /** What the table sorts by, null where there is none. */
  readonly value: (layer: ReportLayer) => string | number | null
  readonly text?: (layer: ReportLayer) => string | Markup
}

const columns: readonly Column[] = [
  { title: 'Layer', kind: 'text', value: ({ name }) => name, text: ({ name }) => breakable(name) },
  {
    title: 'Shape',
    kind: 'number',
    minor: true,
    value: ({ rows, cols }) => rows * cols,
    text: ({ rows, cols }) => `${rows} × ${cols}`,
  },
  { title: 'Format', kind: 'text', minor: true, unlessSame: true, value: ({ format }) => format },
  { title: 'Bits per value', kind: 'number', value: bitsOf, text: (layer) => bitsOf(layer).toFixed(3) },
  {
    title: 'Before',
    kind: 'number',
    minor: true,
    value: ({ bytesBefore }) => bytesBefore,
    text: ({ bytesBefore }) => formatBytes(bytesBefore),
  },
  {
    title: 'After',
    kind: 'number',
    minor: true,
    value: ({ bytes }) => bytes,
    text: ({ bytes }) => formatBytes(bytes),
  },
  {
    title: 'Relative error',
    kind: 'number',
    value: ({ relativeError }) => relativeError,
    text: ({ relativeError }) => relativeError?.toPrecision(3) ?? '–',
  },
  {
    title: 'SNR, dB',
    kind: 'number',
    value: snrOf,
    text: (layer) => {
      const snr = snrOf(layer)
      return snr !== null && Number.isFinite(snr) ? snr.toFixed(1) : snr === null ? '–' : '∞'
    },
  },
  {
    title: 'Moved for drift',
    kind: 'number',
    minor: true,
    value: ({ driftMove }) => driftMove ?? null,
    text: ({ driftMove }) => driftMove?.toPrecision(3) ?? '–',
  },
  {
    title: 'Index bits needed',
    kind: 'number',
    minor: true,
    value: ({ usage }) => usage?.entropyBits ?? null,
    text: ({ usage }) =>
      usage ? `${usage.entropyBits.toFixed(2)} of ${formatNumber(usage.storedBits)}` : '–',
  },
  {
    title: 'Seconds',
    kind: 'number',
    minor: true,
    value: ({ seconds }) => seconds ?? null,
    text: ({ seconds }) => seconds?.toFixed(1) ?? '–',
  },
]

/** Bits per value of a layer, from the bytes stored. */
export function bitsOf({ bytes, rows, cols }: ReportLayer): number {
  return (8 * bytes) / (rows * cols)
}

/** Signal to noise in dB; null where the error was not measured. */
function snrOf({ relativeError }: ReportLayer): number | null {
  if (relativeError === null) return null
  return relativeError === 0 ? Infinity : -10 * Math.log10(relativeError)
}

/** The table of all layers; a column that no layer has a value for is left out. */
export function layerTable({ layers }: ReportData): Markup {
  const shown = columns.filter(({ value, unlessSame }) => {
    const values = new Set(layers.map(value))
    return values.size > (unlessSame ? 1 : 0) && !(values.size === 1 && values.has(null))
  })
  return html`<div class="scroll layers" tabindex="0" role="region" aria-label="Table of layers">
<table class="sortable">
<thead><tr>${shown.map(head)}</tr></thead>
<tbody>
${layers.map((layer) => html`<tr>${shown.map((column) => cell(column, layer))}</tr>\n`)}</tbody>
</table>
</div>`
}

function head({ title, kind, minor }: Column): Markup {
  const classes = [kind, minor ? 'minor' : ''].join(' ').trim()
  return html`<th scope="col" class="${classes}" data-kind="${kind}" aria-sort="none"><button type="button">${title}</button></th>`
}

function cell(column: Column, layer: ReportLayer): Markup {
  const value = column.value(layer)
  const classes = [column.kind, column.minor ? 'minor' : ''].join(' ').trim()
  const text = column.text?.(layer) ?? (typeof value === 'number' ? formatNumber(value) : (value ?? '–'))
  return html`<td class="${classes}" data-value="${value ?? ''}">${text}</td>`
}

/** A name that may break after its dots. */
export function breakable(name: string): Markup {
  const parts = name.split('.')
  return html`${parts.map((part, i) => (i === 0 ? html`${part}` : html`.<wbr>${part}`))}`
}

/** The bytes of layers and of all else, before and after, with a bar for each. */
export function byteTable({ layers, kept }: ReportData): Markup {
  const before = layers.reduce((sum, layer) => sum + layer.bytesBefore, 0)
  const after = layers.reduce((sum, layer) => sum + layer.bytes, 0)
  const most = Math.max(before + kept.bytes, after + kept.bytes, 1)
  const row = (name: string, was: number, is: number) => html`<tr><th scope="row">${name}</th>
<td>${formatBytes(was)}</td><td>${formatBytes(is)}</td><td>${is > 0 ? `${(was / is).toFixed(2)} ×` : '–'}</td>
<td class="bars minor" aria-hidden="true">${bar('bar before', was / most)}${bar('bar', is / most)}</td></tr>\n`
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Bytes before and after">
<table style="width:100%">
<thead><tr><td></td><th scope="col">before</th><th scope="col">after</th><th scope="col">smaller</th><th scope="col" class="text minor" aria-hidden="true">before (above) and after</th></tr></thead>
<tbody>
${row('quantized layers', before, after)}${kept.tensors > 0 ? row('tensors kept as they are', kept.bytes, kept.bytes) : empty}${row('all tensors', before + kept.bytes, after + kept.bytes)}</tbody>
</table>
</div>`
}

function bar(classes: string, share: number): Markup {
  return html`<span class="${classes}" style="width:${(100 * share).toFixed(2)}%"></span>`
}
