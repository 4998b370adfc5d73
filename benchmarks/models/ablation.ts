/**
 * What each step of the method does to a whole model: layer errors, KL divergence and perplexity on text that neither
 * calibration nor tuning has seen.
 *
 * `npm run bench:accuracy -- FOLDER [--json FILE] [--only TABLE] [--markdown FILE]`, where FOLDER has `reference/`
 * (figures of the published code, calibration offsets) and `data/` (texts). Each row is written to the JSON file as
 * soon as it is measured, and rows that the file has are not measured again: a run that was stopped goes on.
 */
import { existsSync } from 'node:fs'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { parseArgs } from 'node:util'
import { type Matrix, matrix, reconstructionError } from 'gptvq'
import {
  allLinearLayers,
  cutWindows,
  dequantize,
  linearLayers,
  type OpenModel,
  openModel,
  type QuantizedLayer,
  quantizeModel,
  type Scores,
  scoreModels,
  startEngine,
  withQuantizedLayers,
} from 'gptvq/model'
import { disposeBlock, openBlock } from '../../src/model/decoder/block.js'
import { embedTokens } from '../../src/model/decoder/embedding.js'
import { calibrationStream } from '../../src/pipeline/calibrate/calibration-stream.js'
import { describe, environment } from '../common/environment.js'
import { hessiansThrough, modelFolder as model } from '../common/real-layers.js'
import { calibrationSequences, evaluationTokens, referenceRows, WINDOW } from '../common/reference-data.js'
import { replaceSection } from '../common/report.js'
import { type AblationRow, type AblationTable, ablationTables } from './ablation-rows.js'
import { ablationMarkdown, type MeasuredRow } from './ablation-tables.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'string', default: 'out/accuracy.json' },
    only: { type: 'string' },
    markdown: { type: 'string' },
  },
})
const folder = positionals[0]
if (folder === undefined) {
  console.error('usage: npm run bench:accuracy -- FOLDER [--json FILE] [--only TABLE] [--markdown FILE]')
  process.exit(2)
}

/** What the file keeps: the rows measured so far by what they depend on. */
interface Measurements {
  environment: string
  rows: Record<string, MeasuredRow>
}

const known = await readKnown()
const full = await openFull()
try {
  for (const table of ablationTables.filter(({ id }) => values.only === undefined || id === values.only)) {
    for (const row of table.rows) {
      const missing = seedsOf(table, row).filter((seed) => known.rows[keyOf(table, row, seed)] === undefined)
      if (missing.length === 0) continue
      console.error(`${table.id}: ${row.label}, seeds ${missing.join(', ')}`)
      const measured = await measure(row, missing, table.windows)
      for (const [i, seed] of missing.entries()) known.rows[keyOf(table, row, seed)] = measured[i]
      await writeKnown()
    }
  }
} finally {
  await full.model.close()
}
// a table that the file has no row of keeps what its page says
const sections = ablationTables
  .map((table) => ({ table, rows: rowsOf(table) }))
  .filter(({ rows }) => rows.some(({ measured }) => measured.length > 0))
  .map(({ table, rows }) => ablationMarkdown(table, rows, full.reference))
if (values.markdown === undefined) console.log(sections.map(({ text }) => text).join('\n\n'))
else {
  let page = await readFile(values.markdown, 'utf8')
  for (const { id, text } of sections) page = replaceSection(page, id, `${text}\n\n${known.environment}`)
  await writeFile(values.markdown, page)
}

function rowsOf(table: AblationTable) {
  return table.rows.map((row) => ({
    row,
    measured: seedsOf(table, row).flatMap((seed) => known.rows[keyOf(table, row, seed)] ?? []),
  }))
}

function seedsOf(table: AblationTable, { seeds = table.seeds }: AblationRow): readonly number[] {
  return seeds
}

function keyOf({ windows }: AblationTable, { options, sequences = 64 }: AblationRow, seed: number): string {
  return JSON.stringify({ windows, sequences, seed, options })
}

async function readKnown(): Promise<Measurements> {
  if (!existsSync(values.json)) return { environment: describe(environment()), rows: {} }
  return JSON.parse(await readFile(values.json, 'utf8')) as Measurements
}

async function writeKnown(): Promise<void> {
  await mkdir(dirname(values.json), { recursive: true })
  await writeFile(`${values.json}.partial`, `${JSON.stringify(known, null, 1)}\n`)
  await rename(`${values.json}.partial`, values.json)
}

/** The full model, its layers, and the Hessians of its inputs on calibration and on held-out text. */
async function openFull() {
  await startEngine('wasm')
  const opened = await openModel(model)
  const text = await evaluationTokens(folder, opened, model)
  const heldOut = cutWindows(text, WINDOW, 64)
  return {
    model: opened,
    text,
    reference: await referenceRows(folder),
    weights: await weightsOf(opened),
    calibrated: await hessiansOf(opened, await calibrationSequences(folder, opened, model)),
    heldOut: await hessiansOf(opened, heldOut),
  }
}

async function weightsOf({ source, config }: OpenModel): Promise<Map<string, Matrix>> {
  const weights = new Map<string, Matrix>()
  for (const { name, rows, cols } of allLinearLayers(config)) {
    weights.set(name, matrix(rows, cols, await source.floats(name)))
  }
  return weights
}

/** The Hessians of all linear layers in the full model, by the name of the weight. */
async function hessiansOf(
  { source, config }: OpenModel,
  sequences: readonly Int32Array[],
): Promise<Map<string, Matrix>> {
  const tokens = Int32Array.from(sequences.flatMap((sequence) => Array.from(sequence)))
  const stream = calibrationStream(config, await embedTokens(source, config, tokens), WINDOW)
  const hessians = new Map<string, Matrix>()
  for (const [index, description] of config.blocks.entries()) {
    const block = await openBlock(source, description)
    try {
      const found = await hessiansThrough(block, stream)
      for (const { name, kind } of linearLayers(config, index)) hessians.set(name, found.get(kind)!)
    } finally {
      disposeBlock(block)
    }
  }
  return hessians
}

/** Quantizes with each seed, then scores all of them beside one pass of the full model. */
async function measure(row: AblationRow, seeds: readonly number[], windows: number): Promise<MeasuredRow[]> {
  const { config, source } = full.model
  const sequences = await calibrationSequences(folder, full.model, model, row.sequences)
  const quantized: (Omit<MeasuredRow, keyof Figures> & { layers: Map<string, QuantizedLayer> })[] = []
  for (const seed of seeds) {
    const layers = new Map<string, QuantizedLayer>()
    const onLayer = (name: string, layer: QuantizedLayer) => layers.set(name, layer)
    const report = await quantizeModel({ model, calibration: { sequences }, ...row.options, seed, onLayer })
    const { seconds, bitsPerValue } = report
    const ownError = mean(report.layers.map(({ relativeError }) => relativeError!))
    quantized.push({ seed, bitsPerValue, seconds: seconds.total, ownError, tuning: report.tuning, layers })
  }
  const candidates = quantized.map(({ layers }) => ({ source: withQuantizedLayers(source, layers), config }))
  const scored = await scoreModels({
    reference: full.model,
    candidates,
    windows: cutWindows(full.text, WINDOW, windows),
  })
  return quantized.map(({ layers, ...rest }, i) => ({ ...rest, ...figures(layers, scored.candidates[i]) }))
}

type Figures = ReturnType<typeof figures>

function figures(layers: ReadonlyMap<string, QuantizedLayer>, scores: Scores) {
  const errorOn = (hessians: ReadonlyMap<string, Matrix>) =>
    mean(
      Array.from(layers, ([name, layer]) => {
        const values = dequantize(layer)
        return reconstructionError(full.weights.get(name)!, values, hessians.get(name)!).relative
      }),
    )
  return {
    calibrationError: errorOn(full.calibrated),
    heldOutError: errorOn(full.heldOut),
    klDivergence: scores.klDivergence!,
    perplexity: scores.perplexity,
    top1Agreement: scores.top1Agreement!,
  }
}

function mean(numbers: readonly number[]): number {
  return numbers.reduce((sum, value) => sum + value, 0) / numbers.length
}
