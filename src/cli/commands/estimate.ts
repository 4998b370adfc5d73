import type { Estimate } from '../../pipeline/estimate/estimate-model.js'
import { estimateFlags } from '../flags/estimate-flags.js'
import { defineCommand } from '../parse/command.js'
import { formatBits, formatBytes, formatCount, formatSeconds } from '../terminal/format.js'
import { formatTable } from '../terminal/table.js'
import { calibrationArgument } from '../terminal/text-argument.js'

/** `gptvq estimate MODEL` */
export const estimateCommand = defineCommand({
  name: 'estimate',
  argument: 'MODEL',
  summary: 'tell what quantizing a model would take: time, memory, disk, bits',
  about:
    'Takes the flags of quantize and tells what it would take with them on this machine, without quantizing: time from a ' +
    'few seconds of the real work (a batch of tokens through a block, a part of the rows of its layers), memory, disk and ' +
    'bits from the sizes. A machine that is busy meanwhile looks as slow as it is.',
  examples: [
    'estimate ./my-model --calibration calibration.txt',
    'estimate ./my-model --bits 3 --sequences 64 --sequence-length 512 --json',
  ],
  flags: estimateFlags,
  async run(model, { calibration: given, ...flags }, context) {
    const { signal } = context
    const { estimateModel } = await import('../../pipeline/estimate/estimate-model.js')
    const calibration = await calibrationArgument(given, context)
    const estimate = await estimateModel({ model, ...flags, ...calibration, ...(signal && { signal }) })
    return { json: estimate, text: estimateTable(estimate) }
  },
})

function estimateTable(estimate: Estimate): string {
  const { seconds, memory, memoryBytes, diskBytes, outputBytes, bitsPerValue, wholeModelBits } = estimate
  const { tokens, machine, measuredSeconds, notes } = estimate
  const phases = (['calibration', 'sensitivity', 'quantization'] as const)
    .filter((phase) => seconds[phase] > 0)
    .map((phase) => `${phase} ${formatSeconds(seconds[phase])}`)
  const parts = Object.entries(memory)
    .filter(([, bytes]) => bytes > 0)
    .map(([part, bytes]) => `${part} ${formatBytes(bytes)}`)
  return formatTable(
    [
      ['time', `${formatSeconds(seconds.total)} (${phases.join(', ')})`],
      ['memory', `${formatBytes(memoryBytes)} (${parts.join(', ')})`],
      ['disk', `${formatBytes(diskBytes)} while it runs`],
      ['output', formatBytes(outputBytes)],
      ['bits per value', `${formatBits(bitsPerValue)}, whole model ${formatBits(wholeModelBits)}`],
      ['calibration', tokens > 0 ? formatCount(tokens, 'token') : 'none'],
      [
        'measured',
        `in ${formatSeconds(measuredSeconds)} on ${formatCount(machine.threads, 'thread')}, kernels ${machine.kernels}, ` +
          `products ${machine.products}`,
      ],
      ...notes.map((note) => ['note', note]),
    ],
    ['left', 'left'],
  )
}

/** One line of it. */
export function estimateLine({
  seconds,
  memoryBytes,
  diskBytes,
  outputBytes,
  bitsPerValue,
}: Estimate): string {
  return (
    `estimated: ${formatSeconds(seconds.total)}, ${formatBytes(memoryBytes)} of memory, ${formatBytes(diskBytes)} of disk, ` +
    `${formatBytes(outputBytes)} at ${formatBits(bitsPerValue)} bits per value`
  )
}
