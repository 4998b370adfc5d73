import { codebookPlot } from '../codebooks/codebook-plot.js'
import { indexHistogram } from '../codebooks/index-histogram.js'
import { type IndexUsage, meanUsage } from '../codebooks/index-usage.js'
import { convergencePlot } from '../convergence-plot.js'
import { empty, html, type Markup, trusted } from '../drawing/markup.js'
import { formatWhole } from '../drawing/text.js'
import { layerBars } from '../layer-bars.js'
import { rateDistortionChart } from '../rate-distortion.js'
import { sensitivityMap } from '../sensitivity-map.js'
import { expertsTogether } from './experts-together.js'
import type { ReportData, ReportLayer } from './report-data.js'
import { widths } from './report-style.js'

/** A section of the report with its heading; nothing where there is nothing to show. */
export function section(title: string, ...content: readonly Markup[]): Markup {
  const shown = content.filter(({ markup }) => markup !== '')
  if (shown.length === 0) return empty
  return html`<section>\n<h2>${title}</h2>\n${shown.map((part) => html`${part}\n`)}</section>\n`
}

/** Errors by layer, as bars and as a map. */
export function errorFigures({ layers, made }: ReportData): Markup {
  if (layers.every(({ relativeError }) => relativeError === null)) {
    const why =
      made?.command === 'train'
        ? 'training goes by the predictions of the whole model.'
        : 'the method uses no calibration text.'
    return html`<p class="note">No errors were measured: ${why}</p>`
  }
  const shown = expertsTogether(layers)
  const values = shown.map(({ name, relativeError }) => ({ name, value: relativeError }))
  const scale = values.some(({ value }) => value === 0) ? 'linear' : 'log'
  const note =
    shown.length < layers.length
      ? html`<p class="note">Of the experts of a block the mean is drawn; the table has each of them.</p>\n`
      : empty
  return html`${note}${figure(widths.full, (width) => layerBars(shown, { width }))}
${figure(widths.full, (width) => sensitivityMap(values, { width, scale }))}`
}

/** The codebooks that the report shows. */
export function codebookFigures({ codebooks = [] }: ReportData): Markup {
  const figures = codebooks.map(({ layer, group, ...codebook }) =>
    figure(widths.full, (width) => {
      const title = `${layer}, group ${formatWhole(group)}`
      return codebookPlot(codebook, { width, title })
    }),
  )
  return html`${figures}`
}

/** How centroids are used: one picture for each size of codebook. */
export function usageFigures({ layers }: ReportData): Markup {
  const bySize = new Map<number, { usage: IndexUsage; layer: ReportLayer }[]>()
  for (const layer of layers) {
    const { usage } = layer
    if (usage === undefined) continue
    const size = usage.shares.length
    bySize.set(size, [...(bySize.get(size) ?? []), { usage, layer }])
  }
  const figures = [...bySize.values()].map((members) => {
    const usage = meanUsage(
      members.map((member) => member.usage),
      members.map(({ layer }) => layer.rows * layer.cols),
    )
    return figure(widths.half, (width) => indexHistogram(usage, { width }))
  })
  return grid(figures)
}

/** Losses by step. */
export function convergenceFigures({ convergence = [] }: ReportData): Markup {
  return grid(
    convergence.map(({ curves, ...options }) =>
      figure(widths.half, (width) => convergencePlot(curves, { ...options, width })),
    ),
  )
}

/** This checkpoint among others. */
export function comparisonFigure({ comparison }: ReportData): Markup {
  if (comparison === undefined) return empty
  const { points, ...options } = comparison
  return figure(widths.full, (width) =>
    rateDistortionChart(points, { ...options, width: Math.min(width, 640) }),
  )
}

/** A picture in two widths, of which the page shows the one that suits the screen. */
export function figure(width: number, draw: (width: number) => string): Markup {
  return html`<figure><div class="wide">${inline(draw(width))}</div><div class="narrow">${inline(draw(widths.narrow))}</div></figure>\n`
}

/** A picture without the style of its own: the page has it once for all. */
function inline(svg: string): Markup {
  return trusted(svg.replace(/<style>[^<]*<\/style>/, ''))
}

function grid(figures: readonly Markup[]): Markup {
  return figures.length > 0 ? html`<div class="grid">${figures}</div>` : empty
}
