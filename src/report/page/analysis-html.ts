import { requireObject } from '../../common/check-option.js'
import { requireFigure, requireSome } from '../check.js'
import { html, type Markup } from '../drawing/markup.js'
import { formatNumber, formatWhole } from '../drawing/text.js'
import { sensitivityMap } from '../sensitivity-map.js'
import { htmlDocument } from './html-document.js'
import { figure, section } from './report-figures.js'
import { widths } from './report-style.js'
import { breakable } from './report-table.js'

/** A layer as an analysis found it. */
export interface AnalysisLayer {
  /** Its name. */
  readonly name: string
  /** KL divergence from the full model in nats per token, with one layer rounded. */
  readonly sensitivity: {
    /** Its weights. */
    readonly weights: number
    /** Its inputs. */
    readonly activations: number
    /** Both. */
    readonly both: number
  }
  /** What its weights span. */
  readonly weights: AnalysisRange
  /** What its inputs span; null where no token reached it. */
  readonly inputs:
    | (AnalysisRange & {
        /** The largest magnitude in the largest channel over that in the median one. */
        readonly outlierRatio: number
      })
    | null
}

/** What some values span. */
export interface AnalysisRange {
  /** The least. */
  readonly low: number
  /** The greatest. */
  readonly high: number
  /** The square root of the mean square. */
  readonly rms: number
}

/** What the page of an analysis tells: the result of `analyzeModel` is one. */
export interface AnalysisData {
  /** The model. */
  readonly model: string
  /** How layers were rounded. */
  readonly settings: Readonly<Record<string, unknown>>
  /** All layers. */
  readonly layers: readonly AnalysisLayer[]
  /** Of the full model. */
  readonly perplexity: number
  /** Tokens per window. */
  readonly context: number
  /** Windows that the model was run on. */
  readonly windows: number
}

type Measure = (layer: AnalysisLayer) => number | null

const sizeOf = ({ low, high }: { readonly low: number; readonly high: number }) => Math.max(-low, high)

/** The pictures of sensitivity, of weights and of activations. */
const maps: readonly (readonly [title: string, measure: string, of: Measure])[] = [
  ['Weights rounded', 'KL of a layer', ({ sensitivity }) => sensitivity.weights],
  ['Inputs rounded', 'KL of a layer', ({ sensitivity }) => sensitivity.activations],
  ['Both rounded', 'KL of a layer', ({ sensitivity }) => sensitivity.both],
]
const ranges: typeof maps = [
  ['Weights: largest over typical', 'largest magnitude / root mean square', ({ weights }) => peak(weights)],
  [
    'Inputs: largest over typical',
    'largest magnitude / root mean square',
    ({ inputs }) => inputs && peak(inputs),
  ],
  ['Inputs: largest channel over the median one', 'ratio', ({ inputs }) => inputs?.outlierRatio ?? null],
]

function peak(range: { readonly low: number; readonly high: number; readonly rms: number }): number {
  return range.rms > 0 ? sizeOf(range) / range.rms : 0
}

/**
 * The analysis of a model as one HTML page that needs nothing else: what rounding each layer does to the predictions, and
 * what weights and inputs span, as pictures and as a table that can be sorted.
 *
 * @throws OptionError naming the field that cannot be right
 */
export function analysisHtml(data: AnalysisData): string {
  requireObject('data', data)
  const { model, layers, perplexity, context, windows } = data
  requireSome('layers', layers, 'layer')
  for (const { name, sensitivity } of layers) {
    for (const [kind, value] of Object.entries(sensitivity)) {
      requireFigure('layers', value, `sensitivity.${kind} of ${name}`)
    }
  }
  const title = `${model}: analysis`
  const about =
    `${formatWhole(layers.length)} linear layers, each rounded alone, on ${formatWhole(windows)} ${windows === 1 ? 'window' : 'windows'} of ` +
    `${formatWhole(context)} tokens; the full model has a perplexity of ${formatNumber(perplexity)} on them.`
  const settings = Object.entries(data.settings).map(
    ([name, value]) => html`<dt>${name}</dt><dd>${String(value)}</dd>\n`,
  )
  const main = html`<header>
<h1>${model}</h1>
<p class="lead">${about}</p>
</header>
${section('What rounding a layer does to the predictions', ...maps.map((map) => picture(layers, map)))}${section('What weights and inputs span', ...ranges.map((map) => picture(layers, map)))}${section('Layers', table(layers))}${section('Settings', html`<dl class="pairs">${settings}</dl>`)}`
  return htmlDocument(title, 'gptvq', main)
}

function picture(layers: readonly AnalysisLayer[], [title, measure, of]: (typeof maps)[number]): Markup {
  const values = expertsMean(layers, of)
  const scale = values.every(({ value }) => value === null || value > 0) ? 'log' : 'linear'
  return figure(widths.full, (width) => sensitivityMap(values, { width, title, measure, scale }))
}

/** Values of layers, of the experts of a block their mean. */
function expertsMean(
  layers: readonly AnalysisLayer[],
  of: Measure,
): { name: string; value: number | null }[] {
  const groups = new Map<string, number[]>()
  for (const layer of layers) {
    const name = layer.name.replace(/\.experts\.\d+\./, '.experts.*.')
    const value = of(layer)
    groups.set(name, [...(groups.get(name) ?? []), ...(value === null ? [] : [value])])
  }
  return Array.from(groups, ([name, found]) => ({
    name,
    value: found.length > 0 ? found.reduce((sum, value) => sum + value, 0) / found.length : null,
  }))
}

const columns: readonly (readonly [title: string, of: Measure])[] = [
  ['KL, weights', ({ sensitivity }) => sensitivity.weights],
  ['KL, inputs', ({ sensitivity }) => sensitivity.activations],
  ['KL, both', ({ sensitivity }) => sensitivity.both],
  ['least weight', ({ weights }) => weights.low],
  ['greatest weight', ({ weights }) => weights.high],
  ['least input', ({ inputs }) => inputs?.low ?? null],
  ['greatest input', ({ inputs }) => inputs?.high ?? null],
  ['largest channel / median', ({ inputs }) => inputs?.outlierRatio ?? null],
]

function table(layers: readonly AnalysisLayer[]): Markup {
  const head = (title: string, kind: string) =>
    html`<th scope="col" class="${kind}" data-kind="${kind}" aria-sort="none"><button type="button">${title}</button></th>`
  const cell = (value: number | null) =>
    html`<td class="number" data-value="${value ?? ''}">${value === null ? '–' : formatNumber(value)}</td>`
  const rows = layers.map(
    (layer) =>
      html`<tr><td class="text" data-value="${layer.name}">${breakable(layer.name)}</td>${columns.map(([, of]) => cell(of(layer)))}</tr>\n`,
  )
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Table of layers">
<table class="sortable">
<thead><tr>${head('Layer', 'text')}${columns.map(([title]) => head(title, 'number'))}</tr></thead>
<tbody>
${rows}</tbody>
</table>
</div>`
}
