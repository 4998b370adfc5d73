import type { DistillModelReport } from '../../train/distill-model.js'
import { blockNumbers, distillFlags } from '../flags/train-flags.js'
import { defineCommand } from '../parse/command.js'
import { formatArgument, formatBytes, formatCount, formatSeconds } from '../terminal/format.js'
import { formatTable } from '../terminal/table.js'
import { readTextArgument } from '../terminal/text-argument.js'
import { curveRows } from './train.js'

/** `gptvq distill MODEL --keep-blocks 0,2 --text FILE --out DIR` */
export const distillCommand = defineCommand({
  name: 'distill',
  argument: 'MODEL',
  summary: 'teach a smaller model what this one predicts',
  about:
    'MODEL is the teacher. The student is a plain model of the same vocabulary (--student), or is made of some blocks of ' +
    'the teacher (--keep-blocks), and learns to predict what the teacher does on a text. What is written is a plain model ' +
    'folder, to be quantized as any other.',
  examples: [
    'distill ./big-model --keep-blocks 0,2,3 --text text.txt --out ./small-model',
    'distill ./big-model --student ./small-model --text text.txt --out ./small-model-taught',
  ],
  flags: distillFlags,
  async run(teacher, { out, keepBlocks, ...options }, context) {
    const { onProgress, signal } = context
    const kept = keepBlocks === undefined ? undefined : blockNumbers(keepBlocks)
    const { distillModel } = await import('../../train/distill-model.js')
    const chosen = kept && { keepBlocks: kept }
    const text = await readTextArgument(options.text, context)
    const shared = { ...options, ...chosen, text, onProgress, signal }
    const report = await distillModel({ teacher, output: out, ...shared })
    return { json: report, text: summary(report) }
  },
})

function summary({
  teacher,
  output,
  blocks,
  curve,
  notes,
  outputBytes,
  seconds,
}: DistillModelReport): string {
  const rows = [
    ['student', formatCount(blocks, 'block')],
    ...curveRows(curve),
    ...notes.map((note) => ['text', note]),
    ['written', `${output}: ${formatBytes(outputBytes)}`],
    ['time', formatSeconds(seconds)],
  ]
  return [
    `A student of ${teacher} is trained.`,
    '',
    formatTable(rows, ['left', 'left']),
    '',
    'Next:',
    `  gptvq quantize ${formatArgument(output)} --out DIR --calibration FILE`,
  ].join('\n')
}
