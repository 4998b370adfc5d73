import { reportFlags } from '../flags/flags.js'
import { defineCommand } from '../parse/command.js'
import { formatBits, formatBytes, formatCount } from '../terminal/format.js'

/** `gptvq report DIR --out FILE` */
export const reportCommand = defineCommand({
  name: 'report',
  argument: 'DIR',
  summary: 'write what a quantized model is like as one HTML page with pictures',
  about:
    'Reads a quantized folder and writes one HTML file that needs nothing else: bytes before and after, errors by ' +
    'layer, a table that can be sorted, codebooks, use of the indices, settings, the command to reproduce. With ' +
    '--reference the codebooks are drawn over the weights they stand for.',
  examples: [
    'report ./my-model-2bit --out report.html',
    'report ./my-model-2bit --out report.html --reference ./my-model --force',
  ],
  flags: reportFlags,
  async run(model, { out, ...options }, { onProgress, signal }) {
    const { writeReport } = await import('../../pipeline/reports/write-report.js')
    const { bytes, data } = await writeReport({ model, output: out, ...options, onProgress, signal })
    const values = data.layers.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
    const stored = data.layers.reduce((sum, layer) => sum + layer.bytes, 0)
    const bitsPerValue = (8 * stored) / values
    const layers = data.layers.length
    return {
      json: { model, output: out, bytes, layers, bitsPerValue },
      text:
        `The report of ${model} is written to ${out}: ${formatBytes(bytes)}, ` +
        `${formatCount(layers, 'layer')} at ${formatBits(bitsPerValue)} bits per value.`,
    }
  },
})
