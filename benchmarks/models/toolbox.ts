/**
 * What the scalar grids and the quantization of activations do to a whole model: KL divergence and perplexity on text
 * that calibration has not seen.
 *
 * `npx tsx benchmarks/models/toolbox.ts FOLDER [--json FILE] [--only TABLE] [--windows N] [--sequences N] [--massive FACTOR]`, where
 * FOLDER has `reference/` (calibration offsets) and `data/` (texts). `--massive` measures on the embedded model with one
 * feature in front of the `down_proj` of block 1 so many times squared as large. Tables are written to the JSON file as they are measured, and rows that the
 * file has are not measured again.
 */
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  cutWindows,
  type OpenModel,
  openModel,
  type QuantizeModelOptions,
  quantizeModel,
  scoreModels,
  startEngine,
} from 'gptvq/model'
import { scaledModel } from '../common/massive-model.js'
import { modelFolder } from '../common/real-layers.js'
import { calibrationSequences, evaluationTokens, WINDOW } from '../common/reference-data.js'
import { type ToolboxRow, toolboxTables } from './toolbox-rows.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'string', default: 'out/toolbox.json' },
    only: { type: 'string' },
    windows: { type: 'string', default: '64' },
    sequences: { type: 'string', default: '64' },
    massive: { type: 'string' },
  },
})
const folder = positionals[0]
if (folder === undefined) {
  console.error(
    'usage: npx tsx benchmarks/models/toolbox.ts FOLDER [--json FILE] [--only TABLE] [--windows N] [--sequences N] [--massive FACTOR]',
  )
  process.exit(2)
}

interface Measured {
  readonly bitsPerValue: number
  readonly klDivergence: number
  readonly perplexity: number
}

const known: Record<string, Measured> = existsSync(values.json)
  ? JSON.parse(await readFile(values.json, 'utf8'))
  : {}
await startEngine('wasm')
const made = await mkdtemp(join(tmpdir(), 'gptvq-toolbox-model-'))
const { massive } = values
const model =
  massive === undefined ? modelFolder : await scaledModel({ factor: Number(massive), block: 1 }, made)
const full = await openModel(model)
try {
  const windows = cutWindows(await evaluationTokens(folder, full, model), WINDOW, Number(values.windows))
  const sequences = await calibrationSequences(folder, full, model, Number(values.sequences))
  const keyOf = ({ options }: ToolboxRow) =>
    JSON.stringify({ windows: windows.length, sequences: sequences.length, massive, options })
  for (const { id, rows } of toolboxTables) {
    if (values.only !== undefined && id !== values.only) continue
    const missing = rows.filter((row) => known[keyOf(row)] === undefined)
    if (missing.length > 0) {
      for (const [i, measured] of (await measure(missing, windows, sequences)).entries()) {
        known[keyOf(missing[i])] = measured
      }
      await mkdir(dirname(values.json), { recursive: true })
      await writeFile(values.json, `${JSON.stringify(known, null, 1)}\n`)
    }
    console.log(`| ${id} | bits per value | KL | perplexity |`)
    for (const row of rows) {
      const { bitsPerValue, klDivergence, perplexity } = known[keyOf(row)]
      const figures = [bitsPerValue.toFixed(3), klDivergence.toFixed(4), perplexity.toFixed(2)]
      console.log(`| ${[row.label, ...figures].join(' | ')} |`)
    }
  }
  console.log(`perplexity of the full model: ${known[nameOfFull(windows)]?.perplexity.toFixed(2)}`)
} finally {
  await full.close()
  await rm(made, { recursive: true })
}

function nameOfFull({ length }: readonly Int32Array[]): string {
  return massive === undefined ? `full ${length}` : `full ${length}, massive ${massive}`
}

/** Quantizes to folders, which keep the ranges of activations, and scores all of them beside one pass of the full model. */
async function measure(
  rows: readonly ToolboxRow[],
  windows: readonly Int32Array[],
  sequences: readonly Int32Array[],
): Promise<Measured[]> {
  const work = await mkdtemp(join(tmpdir(), 'gptvq-toolbox-'))
  const opened: OpenModel[] = []
  try {
    const bits: number[] = []
    for (const [i, { label, options }] of rows.entries()) {
      const output = join(work, String(i))
      console.error(`${new Date().toISOString().slice(11, 19)} ${label}`)
      const given = { model, output, calibration: { sequences }, ...options }
      bits.push((await quantizeModel(withoutUseless(given))).bitsPerValue)
      opened.push(await openModel(output))
    }
    const { reference, candidates } = await scoreModels({ reference: full, candidates: opened, windows })
    known[nameOfFull(windows)] = { bitsPerValue: 0, klDivergence: 0, perplexity: reference!.perplexity }
    return candidates.map(({ klDivergence, perplexity }, i) => ({
      bitsPerValue: bits[i],
      klDivergence: klDivergence!,
      perplexity,
    }))
  } finally {
    for (const { close } of opened) await close()
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
