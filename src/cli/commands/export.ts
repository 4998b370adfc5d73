import type { ExportedGguf } from '../../export/export-gguf.js'
import type { ExportedOnnx } from '../../export/onnx/export-onnx.js'
import { exportFlags, requireOwnFlags } from '../flags/export-flags.js'
import { type CommandResult, defineCommand } from '../parse/command.js'
import { formatBytes, formatCount, formatError } from '../terminal/format.js'
import { describeNotes, formatTable } from '../terminal/table.js'

/** `gptvq export MODEL --format gguf|onnx --out FILE` */
export const exportCommand = defineCommand({
  name: 'export',
  argument: 'MODEL',
  summary: 'write a model for another runtime: GGUF for llama.cpp, ONNX for transformers.js',
  about:
    'Writes a model folder, quantized or plain, for another runtime: weights, sizes, tokenizer, special tokens and chat ' +
    'template. ONNX keeps every index, codebook and scale, and decodes them in the graph. llama.cpp has no vectors and ' +
    'codebooks, so the weights that they stand for are written in what it has; the result tells what that loses.',
  table: [
    ['--format', '--type, --weights', 'what it keeps'],
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
    [
      'onnx',
      'packed',
      'everything, in as many bits as the folder has; a runtime expands it to float32 when it loads the model',
    ],
    ['onnx', 'nbits', 'as packed, but scalar layers of up to 4 bits as MatMulNBits, packed in memory too'],
    ['onnx', 'dense16', 'weights rounded to 11 significant bits (16 bits per weight)'],
    ['onnx', 'dense32', 'every weight, bit for bit (32 bits per weight)'],
  ],
  examples: [
    'export ./my-model-2bit --format gguf --out my-model.gguf',
    'export ./my-model --format gguf --out my-model.gguf --type q4_0 --force',
    'export ./my-model-2bit --format onnx --out my-model-onnx',
    'export ./my-model-w4a8 --format onnx --out my-model-onnx --weights dense32 --encodings',
  ],
  flags: exportFlags,
  async run(model, { out: output, ...values }, context) {
    requireOwnFlags(values.format, { out: output, ...values })
    const { format, type, preTokenizer, weights, encodings, inlineBytes, force } = values
    const { onProgress, signal } = context
    const common = { model, output, force, onProgress, signal }
    if (format === 'gguf') {
      const { exportGguf } = await import('../../export/export-gguf.js')
      const exported = await exportGguf({ ...common, type, preTokenizer })
      return { json: { model, ...exported }, text: describeGguf(model, exported) }
    }
    const { exportOnnx } = await import('../../export/onnx/export-onnx.js')
    return describeOnnx(model, await exportOnnx({ ...common, weights, encodings, inlineBytes }))
  },
})

function describeOnnx(model: string, exported: ExportedOnnx): CommandResult {
  const { output, files, bytes, modelBytes, nodes, notes } = exported
  const lines = [
    `${model} is written to ${output}: ${formatCount(files.length, 'file')}, ${formatBytes(bytes)}, of which the model ` +
      `takes ${formatBytes(modelBytes)} (${formatCount(nodes, 'operation')}).`,
    ...describeNotes(notes),
  ]
  return { json: { model, ...exported }, text: lines.join('\n') }
}

function describeGguf(model: string, { output, bytes, types, notes }: ExportedGguf): string {
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
  return [...lines, ...describeNotes(notes)].join('\n')
}
