import type { Comparison, TrialResult } from '../../pipeline/compare/compare-settings.js'
import { compareFlags } from '../flags/compare-flags.js'
import { defineCommand } from '../parse/command.js'
import { formatBits, formatBytes, formatError, formatSeconds, formatShare } from '../terminal/format.js'
import { type Align, formatTable } from '../terminal/table.js'
import { calibrationArgument, readTextArgument } from '../terminal/text-argument.js'

const CHART = { signature: '<svg', kind: 'a chart' } as const

/** `gptvq compare MODEL --text FILE --try bits=2 --try bits=2,vectorDim=4` */
export const compareCommand = defineCommand({
  name: 'compare',
  argument: 'MODEL',
  summary: 'try settings on a model and tell what each costs',
  about:
    'Quantizes a model once for each --try and scores each result on a text that calibration has not seen: bits, ' +
    'divergence from the full model, perplexity, time. Nothing but the figures is kept.',
  examples: [
    'compare ./my-model --text held-out.txt --try default --try bits=3 --budget 3.2',
    'compare ./my-model --text t.txt --try bits=2 --try bits=2,vectorDim=4 --chart bits.svg',
  ],
  flags: compareFlags,
  async run(model, values, context) {
    const { onProgress, signal } = context
    const { try: tries, budget, chart, force, calibration: given, ...others } = values
    const { sequences, sequenceLength, seed, ...options } = others
    const { bestWithin, compareSettings } = await import('../../pipeline/compare/compare-settings.js')
    const { requireOutputPlace, writeOutputFile } = await import('../../checkpoint/output/output-file.js')
    const place = { ...CHART, force: force ?? false }
    // found out before the work, not after it
    if (chart !== undefined) await requireOutputPlace(chart, place)
    const shared = defined({ sequences, sequenceLength, seed })
    const trials = tries.map(({ name, options }) => ({ name, options: { ...shared, ...options } }))
    const text = await readTextArgument(options.text, context)
    const calibration = await calibrationArgument(given, context)
    const comparison = await compareSettings({
      ...{ ...options, ...calibration, model, text, trials, onProgress, signal },
    })
    if (chart !== undefined) {
      const bytes = Buffer.from(await drawn(comparison))
      await writeOutputFile(chart, place, (handle) => handle.writeFile(bytes))
    }
    const best = budget === undefined ? undefined : (bestWithin(comparison.trials, budget) ?? null)
    return {
      json: { ...comparison, ...(best !== undefined && { budget, best: best?.name ?? null }) },
      text: [
        comparisonTable(comparison, model),
        ...(best === undefined ? [] : ['', bestLine(best, budget!)]),
        ...(chart === undefined ? [] : ['', `chart  ${chart}`]),
      ].join('\n'),
    }
  },
})

function defined<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T
}

const columns: [heading: string, align: Align][] = [
  ['', 'left'],
  ['bits', 'right'],
  ['whole', 'right'],
  ['size', 'right'],
  ['KL', 'right'],
  ['perplexity', 'right'],
  ['top-1', 'right'],
  ['time', 'right'],
]

function comparisonTable({ trials, reference }: Comparison, model: string): string {
  const rows = trials.map(({ name, bitsPerValue, wholeModelBits, bytes, seconds, scores }) => [
    name,
    formatBits(bitsPerValue),
    formatBits(wholeModelBits),
    formatBytes(bytes),
    formatError(scores.klDivergence),
    scores.perplexity.toPrecision(6),
    formatShare(scores.top1Agreement),
    formatSeconds(seconds),
  ])
  const full = [model, '', '', '', '', reference.perplexity.toPrecision(6)]
  return formatTable(
    [columns.map(([heading]) => heading), ...rows, [], full],
    columns.map(([, align]) => align),
  )
}

function bestLine(best: TrialResult | null, budget: number): string {
  if (best === null) return `no try has ${budget} bits per value or less`
  return `best at ${budget} bits per value or less: ${best.name} (KL ${formatError(best.scores.klDivergence)})`
}

async function drawn({ trials }: Comparison): Promise<string> {
  const { rateDistortionChart } = await import('../../report/rate-distortion.js')
  return rateDistortionChart(
    trials.map(({ name, bitsPerValue, scores }) => ({
      method: name,
      bits: bitsPerValue,
      value: scores.klDivergence!,
    })),
    { measure: 'KL divergence from the full model, nats per token' },
  )
}
