/**
 * What the scalar grids and the quantization of activations do to a whole model: KL divergence and perplexity on text
 * that calibration has not seen.
 *
 * `npx tsx benchmarks/toolbox.ts FOLDER [--json FILE] [--only TABLE] [--windows N]`, where FOLDER has `reference/`
 * (calibration offsets) and `data/` (texts). Each row is written to the JSON file as soon as it is measured, and rows that
 * the file has are not measured again.
 */
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  cutWindows,
  openModel,
  type QuantizeModelOptions,
  quantizeModel,
  scoreModels,
  startEngine,
} from 'gptvq/model'
import { modelFolder as model } from './real-layers.js'
import { calibrationSequences, evaluationTokens, WINDOW } from './reference-data.js'
import { type ToolboxRow, toolboxTables } from './toolbox-rows.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'string', default: 'out/toolbox.json' },
    only: { type: 'string' },
    windows: { type: 'string', default: '64' },
  },
})
const folder = positionals[0]
if (folder === undefined) {
  console.error('usage: npx tsx benchmarks/toolbox.ts FOLDER [--json FILE] [--only TABLE] [--windows N]')
  process.exit(2)
}

interface Measured {
  readonly bitsPerValue: number
  readonly klDivergence: number
  readonly perplexity: number
  readonly seconds: number
}

const known: Record<string, Measured> = existsSync(values.json)
  ? JSON.parse(await readFile(values.json, 'utf8'))
  : {}
await startEngine('wasm')
const full = await openModel(model)
try {
  const windows = cutWindows(await evaluationTokens(folder, full, model), WINDOW, Number(values.windows))
  const sequences = await calibrationSequences(folder, full, model)
  for (const { id, rows } of toolboxTables) {
    if (values.only !== undefined && id !== values.only) continue
    for (const row of rows) {
      const key = JSON.stringify({ windows: windows.length, options: row.options })
      known[key] ??= await measure(row, windows, sequences)
      await mkdir(dirname(values.json), { recursive: true })
      await writeFile(values.json, `${JSON.stringify(known, null, 1)}\n`)
      const { bitsPerValue, klDivergence, perplexity } = known[key]
      const figures = [bitsPerValue.toFixed(3), klDivergence.toFixed(4), perplexity.toFixed(3)]
      console.log(`| ${[row.label, ...figures].join(' | ')} |`)
    }
  }
} finally {
  await full.close()
}

/** Quantizes to a folder, which is what keeps the ranges of activations, and scores it beside the full model. */
async function measure(
  { options }: ToolboxRow,
  windows: readonly Int32Array[],
  sequences: readonly Int32Array[],
): Promise<Measured> {
  const work = await mkdtemp(join(tmpdir(), 'gptvq-toolbox-'))
  const output = join(work, 'quantized')
  try {
    const given = { model, output, calibration: { sequences }, ...options }
    const { seconds, bitsPerValue } = await quantizeModel(withoutUseless(given))
    const quantized = await openModel(output)
    try {
      const { candidates } = await scoreModels({ reference: full, candidates: [quantized], windows })
      const { klDivergence, perplexity } = candidates[0]
      return { bitsPerValue, klDivergence: klDivergence!, perplexity, seconds: seconds.total }
    } finally {
      await quantized.close()
    }
  } finally {
    await rm(work, { recursive: true })
  }
}

/** Plain rounding has no use for calibration, and says so. */
function withoutUseless(options: QuantizeModelOptions): QuantizeModelOptions {
  const { method, scheme, scaleSearch, activationRange = 'token' } = options
  const rounds = method === 'rtn' || scheme !== undefined
  if (!rounds || scaleSearch === 'sequential-mse' || activationRange !== 'token') return options
  const { calibration: _, ...others } = options
  return others
}
