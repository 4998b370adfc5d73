/**
 * Pictures as SVG text, and the report of a quantized folder as HTML. Needs no browser.
 *
 * @module gptvq/report
 */
export type { PictureOptions } from './report/check.js'
export { type CodebookGroup, codebookGroup } from './report/codebook-group.js'
export { codebookPlot } from './report/codebook-plot.js'
export { type ConvergenceOptions, type Curve, convergencePlot } from './report/convergence-plot.js'
export { indexHistogram } from './report/index-histogram.js'
export { type IndexUsage, indexUsage, meanUsage, usageOfCounts } from './report/index-usage.js'
export { type LayerBarsOptions, type LayerError, layerBars } from './report/layer-bars.js'
export { type CostPoint, paretoFront } from './report/pareto-front.js'
export { type RateDistortionOptions, type RatePoint, rateDistortionChart } from './report/rate-distortion.js'
export type { ReportCodebook, ReportData, ReportLayer } from './report/report-data.js'
export { reportHtml } from './report/report-html.js'
export { reproduceCommand } from './report/reproduce-command.js'
export { type LayerValue, type SensitivityMapOptions, sensitivityMap } from './report/sensitivity-map.js'
