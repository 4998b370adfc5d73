import type { Continuations } from '../../pipeline/evaluate/continuations.js'
import type { Evaluation } from '../../pipeline/evaluate/evaluate-model.js'
import type { Scores } from '../../pipeline/evaluate/evaluation-scores.js'
import { evalFlags } from '../flags/flags.js'
import { defineCommand } from '../parse/command.js'
import { formatCount, formatError, formatShare } from '../terminal/format.js'
import { formatTable } from '../terminal/table.js'
import { readTextArgument } from '../terminal/text-argument.js'

/** `gptvq eval MODEL --text FILE` */
export const evalCommand = defineCommand({
  name: 'eval',
  argument: 'MODEL',
  summary: 'measure how well a model predicts a text',
  about:
    'Scores a model folder, quantized or plain, on a text: perplexity, and with --reference the KL divergence and how ' +
    'often both models rank the same token first. The text is tokenized whole and cut into windows without overlap.',
  examples: [
    'eval ./my-model-2bit --reference ./my-model --text held-out.txt',
    'eval ./my-model --text held-out.txt --context 256 --windows 200 --json',
  ],
  flags: evalFlags,
  async run(model, options, context) {
    const { onProgress, signal } = context
    const { evaluateModel } = await import('../../pipeline/evaluate/evaluate-model.js')
    const text = await readTextArgument(options.text, context)
    const evaluation = await evaluateModel({ model, ...options, text, onProgress, signal })
    return { json: evaluation, text: scoreTable(evaluation, model, options.reference) }
  },
})

function scoreTable(evaluation: Evaluation, model: string, reference: string | undefined): string {
  const row = (name: string, { perplexity, klDivergence, top1Agreement, tokens }: Scores) => [
    name,
    perplexity.toPrecision(6),
    formatError(klDivergence),
    formatShare(top1Agreement),
    String(tokens),
  ]
  const rows = [['', 'perplexity', 'KL (nats/token)', 'top-1 agreement', 'tokens'], row(model, evaluation)]
  if (evaluation.reference && reference !== undefined) {
    rows.push(row(`${reference} (reference)`, evaluation.reference))
  }
  const windows = `${formatCount(evaluation.windows, 'window')} of ${formatCount(evaluation.context, 'token')}`
  const parts = [formatTable(rows, ['left', 'right', 'right', 'right', 'right']), windows]
  if (evaluation.continuations) parts.push(continuationLine(evaluation.continuations))
  return parts.join('\n\n')
}

function continuationLine({ count, promptTokens, mostTokens, mean, median, same }: Continuations): string {
  return (
    `${formatCount(count, 'continuation')} of ${formatCount(promptTokens, 'token')} of the text: both models write the same ` +
    `for ${mean.toFixed(1)} tokens in the mean, ${median} in the median; ${formatShare(same)} of them to the end at ${mostTokens}`
  )
}
