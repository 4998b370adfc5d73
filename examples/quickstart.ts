/**
 * Quantizes the embedded model with RTN, GPTQ and GPTVQ at about 2 bits per weight, scores all of them on text that
 * calibration has not seen, writes the GPTVQ checkpoint and scores what was written once more.
 *
 * Run it with `npm run quickstart`; add `-- --json` for the figures as JSON.
 */
import { fileURLToPath } from 'node:url'
import {
  cutWindows,
  openModel,
  type QuantizationReport,
  type QuantizedLayer,
  type QuantizeModelOptions,
  quantizeModel,
  readTokens,
  type Scores,
  scoreModels,
  startEngine,
  withQuantizedLayers,
} from 'gptvq/model'
import {
  formatBits,
  formatBytes,
  formatError,
  formatSeconds,
  formatShare,
} from '../src/cli/terminal/format.js'
import { createProgress } from '../src/cli/terminal/progress-bar.js'
import { formatTable } from '../src/cli/terminal/table.js'

const model = fileURLToPath(new URL('models/tiny-llama', import.meta.url))
const output = 'out/tiny-llama-gptvq'
const context = 256
const windowCount = 32

const methods: { name: string; options: Partial<QuantizeModelOptions> }[] = [
  { name: 'RTN', options: { method: 'rtn' } },
  { name: 'GPTQ', options: { method: 'gptq' } },
  { name: 'GPTVQ 2-D', options: { method: 'gptvq', output, force: true } },
]

/** Share of the run that quantizing takes, the evaluation the rest; for the progress bar only. */
const QUANTIZING_SHARE = 0.4

interface Row {
  name: string
  bitsPerValue: number
  layerBytes: number
  scores: Scores
  seconds: number
}

const started = performance.now()
const json = process.argv.includes('--json')
const progress = createProgress(process.stderr, process.env, () => performance.now())
const engine = await startEngine('auto')
const full = await openModel(model)
try {
  const rows = await compare()
  progress.close()
  if (json) console.log(JSON.stringify({ engine, output, rows }, null, 2))
  else show(rows)
  check(rows)
} finally {
  await full.close()
}

async function compare(): Promise<Row[]> {
  const reports: QuantizationReport[] = []
  const inMemory: Map<string, QuantizedLayer>[] = []
  for (const [i, { name, options }] of methods.entries()) {
    const layers = new Map<string, QuantizedLayer>()
    inMemory.push(layers)
    reports.push(
      await quantizeModel({
        model,
        bits: 2,
        ...(options.method !== 'rtn' && {
          calibration: `${model}/texts/calibration.txt`,
          sequences: 48,
          sequenceLength: context,
        }),
        ...options,
        onLayer: (weight, layer) => layers.set(weight, layer),
        onProgress: ({ step, done }) =>
          progress.report({
            step: `${name}: ${step}`,
            done: (QUANTIZING_SHARE * (i + done)) / methods.length,
          }),
      }),
    )
  }
  const written = await openModel(output)
  try {
    const tokens = await readTokens(`${model}/texts/evaluation.txt`, model, full.config)
    const sources = [...inMemory.map((layers) => withQuantizedLayers(full.source, layers)), written.source]
    const scores = await scoreModels({
      reference: full,
      candidates: sources.map((source) => ({ source, config: full.config })),
      windows: cutWindows(tokens, context, windowCount),
      onProgress: ({ done, total }) =>
        progress.report({
          step: 'evaluating on text that calibration has not seen',
          done: QUANTIZING_SHARE + ((1 - QUANTIZING_SHARE) * done) / total,
        }),
    })
    return tableRows(reports, scores.reference!, scores.candidates)
  } finally {
    await written.close()
  }
}

function tableRows(reports: QuantizationReport[], reference: Scores, candidates: Scores[]): Row[] {
  const before = reports[0].layerBytes.before
  const fullRow = { name: 'full precision (bf16)', bitsPerValue: 16, layerBytes: before, seconds: 0 }
  const row = (name: string, report: QuantizationReport, scores: Scores): Row => ({
    name,
    bitsPerValue: report.bitsPerValue,
    layerBytes: report.layerBytes.after,
    scores,
    seconds: report.seconds.total,
  })
  return [
    { ...fullRow, scores: { ...reference, klDivergence: 0, top1Agreement: 1 } },
    ...reports.map((report, i) => row(methods[i].name, report, candidates[i])),
    row('GPTVQ 2-D, read back', reports[reports.length - 1], candidates[candidates.length - 1]),
  ]
}

function show(rows: Row[]): void {
  const header = [
    'method',
    'bits per value',
    'layer bytes',
    'perplexity',
    'KL to full',
    'top-1 agreement',
    'seconds',
  ]
  const cells = rows.map(({ name, bitsPerValue, layerBytes, scores, seconds }) => [
    name,
    formatBits(bitsPerValue),
    layerBytes.toLocaleString('en'),
    scores.perplexity.toFixed(2),
    formatError(scores.klDivergence),
    formatShare(scores.top1Agreement),
    seconds > 0 ? seconds.toFixed(1) : '-',
  ])
  console.log(
    formatTable([header, [], ...cells], ['left', 'right', 'right', 'right', 'right', 'right', 'right']),
  )
  const [before, ...rest] = rows
  const after = rest[rest.length - 1]
  console.log(
    `\nLinear layers: ${formatBytes(before.layerBytes)} -> ${formatBytes(after.layerBytes)}, ` +
      `${(before.layerBytes / after.layerBytes).toFixed(1)} times smaller. Bits are counted from the bytes stored.\n` +
      `Scored on ${before.scores.tokens.toLocaleString('en')} tokens of text that calibration has not seen.\n` +
      `Checkpoint: ${output} (engine ${engine}, ${formatSeconds((performance.now() - started) / 1000)} in all)\n` +
      `Look at it: npx tsx src/cli/main.ts inspect ${output}`,
  )
}

/** Fails the run when the file does not stand for the same model, or the methods do not rank as they must. */
function check(rows: Row[]): void {
  const [, rtn, gptq, gptvq, readBack] = rows.map(({ scores }) => scores)
  const same = gptvq.perplexity === readBack.perplexity && gptvq.klDivergence === readBack.klDivergence
  const ranked =
    gptvq.klDivergence! < gptq.klDivergence! &&
    gptq.klDivergence! < rtn.klDivergence! &&
    gptvq.perplexity < gptq.perplexity &&
    gptq.perplexity < rtn.perplexity
  if (!json) console.log(`\nThe file scores ${same ? 'exactly as' : 'UNLIKE'} the model in memory.`)
  if (!ranked) console.error('GPTVQ < GPTQ < RTN does not hold for KL divergence and perplexity.')
  if (!same || !ranked) process.exitCode = 1
}
