import { tensorFlags } from '../flags/tensor-flags.js'
import { defineCommand } from '../parse/command.js'
import { formatBits, formatBytes, formatCount } from '../terminal/format.js'
import { describeNotes } from '../terminal/table.js'

/** `gptvq quantize-tensors MODEL --out DIR` */
export const quantizeTensorsCommand = defineCommand({
  name: 'quantize-tensors',
  argument: 'MODEL',
  summary: 'round or cluster the weights of a model of any architecture',
  about:
    'Quantizes weights with two dimensions by their names alone, so that the architecture of the model need not be known: ' +
    'by rounding, or by plain k-means, which see no activations. For families that are known, quantize is better.',
  examples: [
    'quantize-tensors ./some-model --out ./some-model-4bit --scale-search mse',
    "quantize-tensors ./some-model --out ./some-model-2bit --method kmeans --tensors '*.fc1'",
  ],
  flags: tensorFlags,
  async run(model, { out, ...options }, { onProgress, signal }) {
    const { quantizeTensors } = await import('../../pipeline/quantize/quantize-tensors.js')
    const report = await quantizeTensors({ ...options, model, output: out, onProgress, signal })
    return {
      json: report,
      text: [
        `${formatCount(report.layers.length, 'weight')} of ${model} at ${formatBits(report.bitsPerValue)} bits per value, ` +
          `by ${report.method}; written to ${out}, ${formatBytes(report.outputBytes)}.`,
        ...describeNotes(report.notes),
      ].join('\n'),
    }
  },
})
