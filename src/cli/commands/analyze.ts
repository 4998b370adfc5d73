import type { LayerAnalysis, ModelAnalysis } from '../../pipeline/analyze/analyze-model.js'
import { analyzeFlags } from '../flags/analyze-flags.js'
import { defineCommand } from '../parse/command.js'
import { formatCount, formatError } from '../terminal/format.js'
import { formatTable } from '../terminal/table.js'
import { readTextArgument } from '../terminal/text-argument.js'

const PAGE = { signature: '<!doctype html>', kind: 'a report' } as const

/** `gptvq analyze MODEL --text FILE` */
export const analyzeCommand = defineCommand({
  name: 'analyze',
  argument: 'MODEL',
  summary: 'tell which layers bear rounding worst, and what weights and inputs span',
  about:
    'Rounds each linear layer of a model alone, its weights, its inputs, and both, and measures the KL divergence from ' +
    'the full model on a few windows of a text. The model is run three times for each layer.',
  examples: [
    'analyze ./my-model --text text.txt --out analysis.html',
    'analyze ./my-model --text text.txt --scheme w4a8 --activation-range minmax --windows 8',
  ],
  flags: analyzeFlags,
  async run(model, { out, force = false, ...options }, context) {
    const { onProgress, signal } = context
    const { analyzeModel } = await import('../../pipeline/analyze/analyze-model.js')
    const { requireOutputPlace, writeOutputFile } = await import('../../checkpoint/output/output-file.js')
    // found out before the work, not after it
    if (out !== undefined) await requireOutputPlace(out, { ...PAGE, force })
    const text = await readTextArgument(options.text, context)
    const analysis = await analyzeModel({ ...options, model, text, onProgress, signal })
    if (out !== undefined) {
      const { analysisHtml } = await import('../../report/page/analysis-html.js')
      const bytes = Buffer.from(analysisHtml(analysis))
      await writeOutputFile(out, { ...PAGE, force }, (handle) => handle.writeFile(bytes))
    }
    return {
      json: analysis,
      text: [layerTable(analysis), ...(out === undefined ? [] : ['', `page  ${out}`])].join('\n'),
    }
  },
})

function layerTable({ layers, windows, context }: ModelAnalysis): string {
  const row = ({ name, sensitivity, weights, inputs }: LayerAnalysis) => [
    name,
    ...[sensitivity.weights, sensitivity.activations, sensitivity.both].map(formatError),
    formatError(Math.max(-weights.low, weights.high)),
    inputs ? formatError(Math.max(-inputs.low, inputs.high)) : '–',
    inputs ? inputs.outlierRatio.toPrecision(3) : '–',
  ]
  const heading = [
    'layer',
    'KL, weights',
    'KL, inputs',
    'KL, both',
    'largest weight',
    'largest input',
    'outliers',
  ]
  const worst = [...layers].sort((a, b) => b.sensitivity.both - a.sensitivity.both)
  return [
    formatTable(
      [heading, ...worst.map(row)],
      heading.map((_, i) => (i === 0 ? 'left' : 'right')),
    ),
    '',
    `KL in nats per token with one layer rounded, ${formatCount(windows, 'window')} of ${formatCount(context, 'token')}; ` +
      'outliers: the largest channel of the inputs over the median one',
  ].join('\n')
}
