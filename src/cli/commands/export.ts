import type { ExportedGguf } from '../../export/export-gguf.js'
import { defineCommand } from '../parse/command.js'
import { exportFlags } from '../parse/flags.js'
import { formatBytes, formatCount, formatError } from '../terminal/format.js'
import { formatTable } from '../terminal/table.js'

/** `gptvq export MODEL --format gguf --out FILE` */
export const exportCommand = defineCommand({
  name: 'export',
  argument: 'MODEL',
  summary: 'write a model as a file that another runtime loads: GGUF for llama.cpp',
  about:
    'Writes a model folder, quantized or plain, for another runtime: weights, sizes, tokenizer, special tokens and chat ' +
    'template. No other runtime reads vectors and codebooks, so the weights that they stand for are written in what the ' +
    'runtime has; the result tells what that loses.',
  table: [
    ['--format', '--type', 'what it keeps'],
    [],
    [
      'gguf',
      'auto',
      'plain int8 codebooks: every code, as Q8_0 (8.5 bits per weight); scales are rounded to halves',
    ],
    ['', '', 'scalar layers: every code, as Q4_1 (up to 4 bits), Q5_1 (5) or Q8_0; scales likewise'],
    ['', '', 'other layers as they are; those that fit none of these as Q8_0, rounded'],
    ['gguf', 'f32', 'every weight, bit for bit (32 bits per weight)'],
    ['gguf', 'bf16, f16', 'weights rounded to 8 or 11 significant bits (16 bits per weight)'],
    ['gguf', 'q8_0', 'as auto for plain int8 codebooks; others rounded to 8 bits (8.5 bits per weight)'],
    [
      'gguf',
      'q5_1 ... q4_0',
      'weights rounded to 5 or 4 bits (6 to 4.5 bits per weight): adds an error, which is reported',
    ],
  ],
  examples: [
    'export ./my-model-2bit --format gguf --out my-model.gguf',
    'export ./my-model --format gguf --out my-model.gguf --type q4_0 --force',
  ],
  flags: exportFlags,
  async run(model, { out, format: _, ...options }, { onProgress, signal }) {
    const { exportGguf } = await import('../../export/export-gguf.js')
    const exported = await exportGguf({ model, output: out, ...options, onProgress, signal })
    return { json: { model, ...exported }, text: describeExport(model, exported) }
  },
})

function describeExport(model: string, { output, bytes, types, notes }: ExportedGguf): string {
  const rows = [
    ['type', 'tensors', 'bytes', 'same codes', 'added error'],
    [],
    ...types.map(({ type, tensors, bytes, sameCodes, addedError }) => [
      type,
      String(tensors),
      formatBytes(bytes),
      sameCodes > 0 ? String(sameCodes) : '-',
      addedError === 0 ? 'none' : formatError(addedError),
    ]),
  ]
  const lines = [
    `${model} is written to ${output}: ${formatCount(
      types.reduce((sum, { tensors }) => sum + tensors, 0),
      'tensor',
    )}, ${formatBytes(bytes)}.`,
    '',
    formatTable(rows, ['left', 'right', 'right', 'right', 'right']),
  ]
  if (notes.length > 0) lines.push('', ...notes.map((note) => `Note: ${note}.`))
  return lines.join('\n')
}
