import { safeLine, shortened } from '../../common/safe-text.js'
import type { InspectedWeight, Inspection } from '../../pipeline/folders/inspect-model.js'
import { trainedBy } from '../../pipeline/folders/trained-by.js'
import { inspectFlags } from '../flags/flags.js'
import { defineCommand } from '../parse/command.js'
import { formatBits, formatBytes, formatCount, formatError } from '../terminal/format.js'
import { describeNotes, formatTable, wrapText } from '../terminal/table.js'
import { describeSettings } from './quantize.js'

/** `gptvq inspect MODEL` */
export const inspectCommand = defineCommand({
  name: 'inspect',
  argument: 'MODEL',
  summary: 'list the layers of a model: shape, format, bits per value, bytes, error',
  about:
    'Lists what a model folder holds, quantized or plain, from its headers alone. The error of a quantized layer is ' +
    'the relative error that was measured on the calibration activations.',
  examples: ['inspect ./my-model-2bit', 'inspect ./my-model --json'],
  flags: inspectFlags,
  async run(model) {
    const { inspectModel } = await import('../../pipeline/folders/inspect-model.js')
    const inspection = await inspectModel(model)
    return { json: inspection, text: weightTable(inspection) }
  },
})

function weightTable({ model, architecture, method, settings, weights, notes }: Inspection): string {
  const training = trainedBy(settings)
  const trained = training === undefined ? '' : `, then trained: ${training}`
  const state = method === null ? 'not quantized' : `${method}, ${describeSettings(settings)}${trained}`
  const quantized = weights.filter((weight) => weight.quantized)
  const plain = weights.filter((weight) => !weight.quantized)
  const prefix = commonPrefix(weights.map(({ name }) => name).filter((name) => /\.\d+\./.test(name)))
  const rows = [
    [prefix === '' ? '' : `… is ${prefix}`, 'shape', 'bits', 'bytes', 'error'],
    [],
    ...weights.flatMap((weight, i) => weightRows(weight, weights[i - 1], prefix)),
    [],
  ]
  if (quantized.length > 0) {
    rows.push(totals(`${formatCount(quantized.length, 'quantized layer')}, mean error`, quantized))
    rows.push(totals(formatCount(plain.length, 'other tensor'), plain))
  }
  rows.push(totals('together', weights))
  const table = formatTable(rows, ['left', 'left', 'right', 'right', 'right'])
  const lines = [safeLine(`${model}: ${shortened(architecture, 160)}`), ...wrapText(state, 79), '', table]
  return [...lines, ...describeNotes(notes)].join('\n')
}

/** A row of the table; in front of it one with the format, where that is another than in the row above. */
function weightRows(weight: InspectedWeight, above: InspectedWeight | undefined, prefix: string): string[][] {
  const name = weight.quantized ? weight.name.replace(/\.weight$/, '') : weight.name
  const row = [
    prefix !== '' && name.startsWith(prefix) ? `…${name.slice(prefix.length)}` : name,
    weight.shape.join(' x ') || 'scalar',
    formatBits(weight.bitsPerValue),
    formatBytes(weight.bytes),
    formatError(weight.relativeError),
  ]
  return above?.format === weight.format ? [row] : [[`${weight.format}:`], row]
}

/** What all names begin with, up to a dot; empty for fewer than two. */
function commonPrefix(names: readonly string[]): string {
  const [first = '', ...others] = names
  if (others.length === 0) return ''
  let end = first.length
  for (const name of others) while (!name.startsWith(first.slice(0, end))) end--
  return first.slice(0, first.lastIndexOf('.', end - 1) + 1)
}

/** Sums over weights, and the mean of their errors where all have one. */
function totals(name: string, weights: readonly InspectedWeight[]): string[] {
  let bytes = 0
  let values = 0
  let errors = 0
  for (const weight of weights) {
    bytes += weight.bytes
    values += weight.shape.reduce((product, size) => product * size, 1)
    errors += weight.relativeError ?? Number.NaN
  }
  const bits = values > 0 ? formatBits((8 * bytes) / values) : '-'
  const error = Number.isNaN(errors) || weights.length === 0 ? '-' : formatError(errors / weights.length)
  return [name, '', bits, formatBytes(bytes), error]
}
