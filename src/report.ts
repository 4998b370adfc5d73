/**
 * Pictures as SVG text, and the report of a quantized folder as HTML. Needs no browser.
 *
 * @module gptvq/report
 */
export type { PictureOptions } from './report/check.js'
export { type CodebookGroup, codebookGroup } from './report/codebooks/codebook-group.js'
export { codebookPlot } from './report/codebooks/codebook-plot.js'
export { indexHistogram } from './report/codebooks/index-histogram.js'
export { type IndexUsage, indexUsage, meanUsage, usageOfCounts } from './report/codebooks/index-usage.js'
export { type ConvergenceOptions, type Curve, convergencePlot } from './report/convergence-plot.js'
export { type LayerBarsOptions, type LayerError, layerBars } from './report/layer-bars.js'
export {
  type AnalysisData,
  type AnalysisLayer,
  type AnalysisRange,
  analysisHtml,
} from './report/page/analysis-html.js'
export type { ExpertTokens } from './report/page/expert-tokens.js'
export type { ReportCodebook, ReportData, ReportLayer } from './report/page/report-data.js'
export { reportHtml } from './report/page/report-html.js'
export { reproduceCommand } from './report/page/reproduce-command.js'
export { type CostPoint, paretoFront } from './report/pareto-front.js'
export { type RateDistortionOptions, type RatePoint, rateDistortionChart } from './report/rate-distortion.js'
export { type LayerValue, type SensitivityMapOptions, sensitivityMap } from './report/sensitivity-map.js'
