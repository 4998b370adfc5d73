import { dequantizeFlags } from '../flags/flags.js'
import { defineCommand } from '../parse/command.js'
import { formatBytes, formatCount } from '../terminal/format.js'
import { describeNotes } from '../terminal/table.js'

/** `gptvq dequantize DIR --out DIR` */
export const dequantizeCommand = defineCommand({
  name: 'dequantize',
  argument: 'DIR',
  summary: 'write a quantized model as a plain one that any Hugging Face runtime loads',
  about:
    'Writes the weights that a quantized folder stands for as plain tensors, beside the tokenizer and a config.json ' +
    'without quantization_config. The result is as large as the original model.',
  examples: [
    'dequantize ./my-model-2bit --out ./my-model-restored',
    'dequantize ./my-model-2bit --out ./my-model-restored --dtype F32',
  ],
  flags: dequantizeFlags,
  async run(model, { out, ...options }, { onProgress, signal }) {
    const { dequantizeModel } = await import('../../pipeline/folders/dequantize-model.js')
    const written = await dequantizeModel({ model, output: out, ...options, onProgress, signal })
    const { files, bytes, notes } = written
    return {
      json: { model, output: out, ...written },
      text: [
        `${model} is written as plain weights to ${out}: ${formatCount(files.length, 'file')}, ${formatBytes(bytes)}.`,
        ...describeNotes(notes),
      ].join('\n'),
    }
  },
})
