import { readdir } from 'node:fs/promises'
import type { OnProgress } from '../../pipeline/progress.js'
import type { QuantizeModelOptions } from '../../pipeline/quantize/quantize-model.js'
import type { QuantizationReport } from '../../pipeline/quantize/report.js'
import { runDetails } from '../../pipeline/reports/run-details.js'
import { describeExpertTokens, expertTokens } from '../../report/page/expert-tokens.js'
import { settingFlags } from '../../report/page/setting-flags.js'
import { quantizeFlags } from '../flags/flags.js'
import { type CommandContext, defineCommand } from '../parse/command.js'
import {
  formatArgument,
  formatBits,
  formatBytes,
  formatCount,
  formatError,
  formatSeconds,
} from '../terminal/format.js'
import { formatTable, wrapText } from '../terminal/table.js'
import { calibrationArgument } from '../terminal/text-argument.js'
import { estimateLine } from './estimate.js'
import { withPage } from './with-page.js'

/** Bits per value beside those of the indices that need no word. */
const MOST_BESIDE = 0.5

/** Layers that a warning names at most. */
const NAMED_LAYERS = 8

/** `gptvq quantize MODEL --out DIR` */
export const quantizeCommand = defineCommand({
  name: 'quantize',
  argument: 'MODEL',
  summary: 'compress the linear layers of a model',
  about:
    'Quantizes the linear layers of a model folder (config.json, *.safetensors, tokenizer.json), block ' +
    'by block on calibration text, and writes a compressed folder. Norms and routers keep their bytes, so do embedding and ' +
    'head unless told otherwise. The ' +
    "defaults are the paper's recommended setting: 2-D vectors, 2 bits, 2.125 bits per value. Without --calibration " +
    'the model writes its own calibration text.',
  examples: [
    'quantize ./my-model --out ./my-model-2bit --calibration calibration.txt',
    'quantize ./my-model --out ./my-model-2bit --calibration text.txt --report report.html',
    'quantize ./my-model --out ./my-model-3bit --bits 3 --sequences 64 --sequence-length 256',
    'quantize ./my-model --out ./my-model-rtn --method rtn --bits 4',
  ],
  flags: quantizeFlags,
  groups: [
    ['What to make', ['out', 'method', 'bits', 'bpv', 'vectorDim', 'skip', 'set']],
    ['Embedding and head', ['embeddingBits', 'embeddingMethod', 'headBits', 'headMethod']],
    [
      'Calibration',
      [
        'calibration',
        'sequences',
        'sequenceLength',
        'layerOrder',
        'driftCorrection',
        'tokenWeights',
        'damping',
      ],
    ],
    [
      'Trellis and scales',
      ['trellisBits', 'indexWidths', 'scaleBlockSize', 'columnOrder', 'columnsPerGroup'],
    ],
    [
      'Plain codebooks',
      [
        'groupSize',
        'codebookBits',
        'kmeansIterations',
        'kmeansTolerance',
        'kmeansInit',
        'restarts',
        'codebookUpdateSteps',
        'tuningEpochs',
        'tuningSequences',
      ],
    ],
    ['Refinement', ['refinementRounds', 'refinementTolerance', 'vectorMetric']],
  ],
  async run(model, { out, report: page, calibration: given, ...flags }, context) {
    const { signal } = context
    const onProgress = sayingWhatSamplingCosts(context)
    const { quantizeModel } = await import('../../pipeline/quantize/quantize-model.js')
    const calibration = await calibrationArgument(given, context)
    const options = { ...flags, ...calibration }
    const groupsGiven = flags.groupSize !== undefined || flags.columnsPerGroup !== undefined
    await sayWhatItTakes({ model, output: out, ...options, ...(signal && { signal }) }, context)
    const report = await withPage(
      { page, model, out, force: options.force },
      { onProgress, signal },
      (quantizing) => quantizeModel({ model, output: out, ...options, onProgress: quantizing, signal }),
      runDetails,
    )
    return { json: report, text: summary(report, await readdir(out), groupsGiven, page) }
  },
})

/** Says of a run of a minute or more what it will take. */
async function sayWhatItTakes(
  options: QuantizeModelOptions,
  { isTerse, note }: CommandContext,
): Promise<void> {
  if (isTerse) return
  const { estimateLongRun } = await import('../../pipeline/estimate/estimate-model.js')
  const estimate = await estimateLongRun(options)
  if (estimate) note(estimateLine(estimate))
}

/** Says before a model writes its own calibration text that this takes long, and what spares it. */
function sayingWhatSamplingCosts({ onProgress, note, signal }: CommandContext): OnProgress {
  let said = false
  return (progress) => {
    onProgress(progress)
    if (!said && !signal?.aborted && progress.step.startsWith('writing calibration text')) {
      said = true
      note(
        'no --calibration: the model first writes a text of its own, token by token, which can take longer than the ' +
          'rest; --calibration FILE spares that, a few hundred KB of plain text will do',
      )
    }
  }
}

function summary(
  report: QuantizationReport,
  files: readonly string[],
  groupsGiven: boolean,
  page?: string,
): string {
  const { model, output, method, settings, layerBytes, seconds } = report
  const out = output ?? ''
  const rows = [
    ...labelled('method', wrapText(`${method}, ${describeSettings(settings)}`, 63)),
    [
      'bits per value',
      `${formatBits(report.bitsPerValue)}, whole model ${formatBits(report.wholeModel.bitsPerValue)}`,
    ],
    ...describeMixed(report),
    [
      'layers',
      `${report.layers.length}, ${formatBytes(layerBytes.before)} → ${formatBytes(layerBytes.after)}, ` +
        `${(layerBytes.before / layerBytes.after).toFixed(2)} times smaller`,
    ],
    ['layer error', describeErrors(report)],
    ...describeDrift(report),
    ...describeCalibration(report),
    ...describeExperts(report),
    ...labelled(
      'model',
      report.notes.flatMap((note) => wrapText(note, 63)),
    ),
    ...describeTuning(report),
    ['written', `${out}: ${formatCount(files.length, 'file')}, ${formatBytes(report.outputBytes ?? 0)}`],
    ...(page === undefined ? [] : [['report', page]]),
    ['time', describeTime(seconds)],
  ]
  const evaluate = `gptvq eval ${formatArgument(out)} --reference ${formatArgument(model)} --text FILE`
  return [
    `${model} is quantized.`,
    '',
    formatTable(rows, ['left', 'left']),
    '',
    ...(groupsGiven ? warnOfBits(report) : []),
    ...warnOfLittleText(report),
    ...warnOfDrift(report),
    'Next, on text that calibration has not seen:',
    `  ${evaluate}`,
  ].join('\n')
}

/** Settings as the flags that ask for them. */
export function describeSettings(settings: Readonly<Record<string, unknown>>): string {
  return settingFlags(settings)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')
}

/** Numbers of bits that are listed one by one. */
const MOST_LISTED = 4

function describeMixed({ mixed }: QuantizationReport): string[][] {
  if (mixed === null) return []
  const counts = new Map<number, number>()
  for (const layer of mixed.layers) {
    const bits = Number(layer.bits.toFixed(2))
    counts.set(bits, (counts.get(bits) ?? 0) + 1)
  }
  const sorted = Array.from(counts).sort(([a], [b]) => a - b)
  const list =
    sorted.length > MOST_LISTED
      ? [
          `${sorted[0][0]} to ${sorted[sorted.length - 1][0]} bits in ${formatCount(mixed.layers.length, 'layer')}`,
        ]
      : sorted.map(([bits, count]) => `${formatCount(bits, 'bit')} in ${formatCount(count, 'layer')}`)
  return labelled('mixed bits', [list.join(', '), `predicted KL ${formatError(mixed.divergence)}`])
}

function describeErrors({ layers }: QuantizationReport): string {
  let sum = 0
  let measured = 0
  let worst: (typeof layers)[number] | undefined
  for (const layer of layers) {
    if (layer.relativeError === null) continue
    sum += layer.relativeError
    measured++
    if (worst === undefined || layer.relativeError > (worst.relativeError ?? 0)) worst = layer
  }
  if (worst === undefined) return 'not measured, the method uses no calibration'
  return `mean ${formatError(sum / measured)}, worst ${formatError(worst.relativeError)} (${worst.name})`
}

/** How far layers were moved to make up for drift. */
function describeDrift({ layers }: QuantizationReport): string[][] {
  const moved = layers.flatMap(({ name, drift }) => (drift ? [{ name, move: drift.move }] : []))
  if (moved.length === 0) return []
  const mean = moved.reduce((sum, { move }) => sum + move, 0) / moved.length
  const most = moved.reduce((worst, layer) => (layer.move > worst.move ? layer : worst))
  return [
    ['drift moved', `mean ${formatError(mean)} of the norm, most ${formatError(most.move)} (${most.name})`],
  ]
}

/** Names the layers that drift correction was not allowed to move as far as it asked for. */
function warnOfDrift({ layers }: QuantizationReport): string[] {
  const held = layers.filter(({ drift }) => drift !== null && drift.unboundedMove > drift.move)
  if (held.length === 0) return []
  const named = held.slice(0, NAMED_LAYERS).map(({ name }) => name)
  const more = held.length > named.length ? ` and ${held.length - named.length} more` : ''
  return [
    `warning: drift correction was held back in ${formatCount(held.length, 'layer')}: ${named.join(', ')}${more}. ` +
      'Activations are very large, the calibration text is short, or the bits are few; ' +
      'compare with --drift-correction 0',
    '',
  ]
}

/** Says that what is stored beside the indices, or scales, costs far more than usual. */
function warnOfBits({ bitsPerValue, settings, mixed }: QuantizationReport): string[] {
  const { bits } = settings
  if (mixed !== null || typeof bits !== 'number' || bitsPerValue <= bits + MOST_BESIDE) return []
  return [
    `warning: ${formatBits(bitsPerValue)} bits per value are stored where ${bits} were asked for: codebooks and scales of ` +
      'groups so small cost the rest. Leave --group-size away, or give the bits in all by --bpv',
    '',
  ]
}

/** Says where the calibration text is too little for what is fitted to it. */
function warnOfLittleText({ layers }: QuantizationReport): string[] {
  const short = layers.filter(({ tokens, pooled, cols }) => tokens !== null && !pooled && tokens < cols)
  if (short.length === 0) return []
  const least = short.reduce((a, b) => (b.tokens! / b.cols < a.tokens! / a.cols ? b : a))
  return [
    `warning: the calibration text is too little for ${formatCount(short.length, 'layer')}: ${least.name} has ` +
      `${least.cols} inputs and saw ${formatCount(least.tokens!, 'token')}. Its error on other text is larger than ` +
      'the one measured; give a longer text, more --sequences or a longer --sequence-length',
    '',
  ]
}

function describeCalibration({ calibration, method }: QuantizationReport): string[][] {
  if (calibration === null) return [['calibration', `none, ${method} needs none`]]
  const { sequences, length, notes } = calibration
  const first = `${formatCount(sequences, 'sequence')} of ${formatCount(length, 'token')}`
  return labelled('calibration', [first, ...notes])
}

/** How the calibration text fell on experts. */
function describeExperts({ layers }: QuantizationReport): string[][] {
  const experts = expertTokens(layers)
  return experts === undefined ? [] : labelled('experts', wrapText(describeExpertTokens(experts), 63))
}

function describeTuning({ tuning }: QuantizationReport): string[][] {
  if (tuning === null) return []
  const { epochs, kept, sequences } = tuning
  const [before, after] = [epochs[0].heldOut, epochs[kept].heldOut]
  const gain = `KL ${formatError(before)} → ${formatError(after)} on ${formatCount(sequences.heldOut, 'sequence')} held out`
  return [['tuning', `${gain}, epoch ${kept} of ${epochs.length - 1} kept`]]
}

/** Rows of a table whose first has the label. */
function labelled(label: string, lines: readonly string[]): string[][] {
  return lines.map((line, i) => [i === 0 ? label : '', line])
}

function describeTime(seconds: QuantizationReport['seconds']): string {
  const { calibration, sensitivity, quantization, tuning, total } = seconds
  const parts = [
    `calibration ${formatSeconds(calibration)}`,
    ...(sensitivity > 0 ? [`sensitivity ${formatSeconds(sensitivity)}`] : []),
    `quantization ${formatSeconds(quantization)}`,
    ...(tuning > 0 ? [`tuning ${formatSeconds(tuning)}`] : []),
  ]
  return `${formatSeconds(total)} (${parts.join(', ')})`
}
