import type { TrainingCurve } from '../../train/loop/report.js'
import type { TrainModelReport } from '../../train/train-model.js'
import { trainingDetails } from '../../train/training-details.js'
import { trainFlags } from '../flags/train-flags.js'
import { defineCommand } from '../parse/command.js'
import {
  formatArgument,
  formatBits,
  formatBytes,
  formatCount,
  formatError,
  formatSeconds,
} from '../terminal/format.js'
import { formatTable } from '../terminal/table.js'
import { readTextArgument } from '../terminal/text-argument.js'
import { withPage } from './with-page.js'

/** `gptvq train MODEL --method qat --text FILE --out DIR` */
export const trainCommand = defineCommand({
  name: 'train',
  argument: 'MODEL',
  summary: 'train a quantized model end to end: QAT, LR-QAT, codebooks',
  about:
    'Quantizes a model folder, or takes a quantized folder of it (--start), and trains what was quantized on text, by ' +
    'default towards the predictions of the full model. Part of the text is held out; the weights that do best on it are ' +
    'written, perhaps those before training. Needs memory and time for a backward pass.',
  table: [
    ['--method', 'layers', 'what is trained, beside the norms'],
    [],
    ['qat', 'scalar', 'every weight, rounded at each use, and the scales of the grid'],
    ['lr-qat', 'scalar', 'two thin matrices inside the rounding, and the scales'],
    ['codebooks', 'vectors', 'codebooks, of a trellis scales; with --index-rate indices too'],
  ],
  examples: [
    'train ./my-model --method qat --bits 3 --text text.txt --out ./my-model-qat',
    'train ./my-model --method lr-qat --bits 2 --rank 32 --text text.txt --out ./my-model-lrqat',
    'train ./my-model --method qat --start ./4bit --text text.txt --out ./qat --report page.html',
    'train ./my-model --method codebooks --start ./2bit --text text.txt --out ./2bit-tuned',
  ],
  flags: trainFlags,
  async run(model, { out, report: page, ...options }, context) {
    const { trainModel } = await import('../../train/train-model.js')
    const { signal } = context
    const text = await readTextArgument(options.text, context)
    const report = await withPage(
      { page, model, out, force: options.force },
      context,
      (onProgress) => trainModel({ model, output: out, ...options, text, onProgress, signal }),
      trainingDetails,
    )
    return { json: report, text: summary(report, page) }
  },
})

function summary(
  { model, output, method, bitsPerValue, curve, notes, outputBytes, seconds }: TrainModelReport,
  page: string | undefined,
): string {
  const rows = [
    ['method', method],
    ['bits per value', formatBits(bitsPerValue)],
    ...curveRows(curve),
    ...notes.map((note) => ['text', note]),
    ['written', `${output}: ${formatBytes(outputBytes)}`],
    ...(page === undefined ? [] : [['report', page]]),
    ['time', formatSeconds(seconds)],
  ]
  return [
    `${model} is trained.`,
    '',
    formatTable(rows, ['left', 'left']),
    '',
    'Next, on text that training has not seen:',
    `  gptvq eval ${formatArgument(output)} --reference ${formatArgument(model)} --text FILE`,
  ].join('\n')
}

/** Rows of a table on what training came to. */
export function curveRows({
  points,
  kept,
  sequences,
  tokensPerSecond,
  stateBytes,
}: TrainingCurve): string[][] {
  const [first, best] = [points[0].heldOut.loss, points[kept].heldOut.loss]
  const last = points[points.length - 1].step
  const text = `${formatCount(sequences.training, 'sequence')} of ${formatCount(sequences.length, 'token')}`
  return [
    ['trained on', `${text}, ${sequences.heldOut} more held out`],
    [
      'loss held out',
      `${formatError(first)} → ${formatError(best)}, step ${points[kept].step} of ${last} kept`,
    ],
    ['speed', `${Math.round(tokensPerSecond)} tokens per second`],
    ['state', `${formatBytes(stateBytes.trainable)} trained, ${formatBytes(stateBytes.frozen)} frozen`],
  ]
}
