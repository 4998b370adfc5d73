/**
 * What drift correction does to models with massive activations: the embedded model with one row of `gate_proj` and
 * `up_proj` of a block scaled, so that one feature in front of `down_proj` is that factor squared times as large, or
 * with one channel of the embedding scaled. KL divergence with and without drift correction, and of GPTQ.
 *
 * `npm run bench:massive -- [--markdown docs/accuracy.md] [--only TEXT]`; `--only` measures the rows whose names hold
 * the text.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  cutWindows,
  openModel,
  type QuantizedLayer,
  type QuantizeModelOptions,
  quantizeModel,
  readTokens,
  scoreModels,
  startEngine,
  withQuantizedLayers,
} from 'gptvq/model'
import { type MassiveModel, scaledModel } from '../common/massive-model.js'
import { modelFolder } from '../common/real-layers.js'
import { tableOfCells, writeSection } from '../common/report.js'

interface Row {
  readonly model: MassiveModel & { readonly name: string }
  readonly sequences: number
  readonly sequenceLength: number
  readonly bits?: number
}

const WINDOWS = 40
const CONTEXT = 128

const { values } = parseArgs({ options: { markdown: { type: 'string' }, only: { type: 'string' } } })

const block1 = (factor: number): Row['model'] => ({ name: `block 1 times ${factor}`, factor, block: 1 })
const few = { sequences: 16, sequenceLength: 128 }
const rows: readonly Row[] = [
  ...[1, 4, 16, 64, 128, 256].map((factor) => ({ model: block1(factor), ...few })),
  { model: block1(1), sequences: 4, sequenceLength: 128 },
  { model: block1(64), sequences: 4, sequenceLength: 128 },
  { model: block1(64), sequences: 64, sequenceLength: 256 },
  { model: { name: 'block 0 times 64', factor: 64, block: 0 }, ...few },
  { model: { name: 'block 2 times 128', factor: 128, block: 2 }, ...few },
  { model: { name: 'embedding times 16', factor: 16 }, ...few },
  { model: { name: 'embedding times 64', factor: 64 }, ...few },
  { model: block1(64), ...few, bits: 3 },
]
const methods: Readonly<Record<string, Partial<QuantizeModelOptions>>> = {
  corrected: {},
  uncorrected: { driftCorrection: 0 },
  GPTQ: { method: 'gptq' },
}

await startEngine('wasm')
const folder = await mkdtemp(join(tmpdir(), 'gptvq-massive-'))
const lines: string[][] = []
try {
  for (const row of rows) {
    const name = [row.model.name, `${row.sequences} x ${row.sequenceLength}`, `${row.bits ?? 2} bits`]
    if (values.only !== undefined && !name.join(', ').includes(values.only)) continue
    const cells = [...name, ...(await measure(row))]
    console.error(cells.join(' | '))
    lines.push(cells)
  }
} finally {
  await rm(folder, { recursive: true, force: true })
}
const heads = [
  'scaled',
  'calibration',
  'bits',
  'KL',
  'without correction',
  'GPTQ',
  'moved at most',
  'held back',
]
const section = tableOfCells(heads, lines, 3)
if (values.markdown === undefined) console.log(section)
else await writeSection(values.markdown, 'massive', section)
process.exit(0)

/** The cells of a row, from the KL divergence on. */
async function measure({ model, bits, ...calibration }: Row): Promise<string[]> {
  const scaled = await scaledModel(model, folder)
  const full = await openModel(scaled)
  try {
    const candidates = []
    const moves: { move: number; unboundedMove: number }[] = []
    for (const options of Object.values(methods)) {
      const layers = new Map<string, QuantizedLayer>()
      const { layers: reports } = await quantizeModel({
        model: scaled,
        calibration: join(modelFolder, 'texts/calibration.txt'),
        ...calibration,
        ...(bits !== undefined && { bits }),
        ...options,
        onLayer: (name, layer) => layers.set(name, layer),
      })
      moves.push(...reports.flatMap(({ drift }) => drift ?? []))
      candidates.push({ source: withQuantizedLayers(full.source, layers), config: full.config })
    }
    const text = await readTokens(join(modelFolder, 'texts/evaluation.txt'), scaled, full.config)
    const windows = cutWindows(text, CONTEXT, WINDOWS)
    const scored = await scoreModels({ reference: full, candidates, windows })
    const held = moves.filter(({ move, unboundedMove }) => unboundedMove > move).length
    return [
      ...scored.candidates.map(({ klDivergence }) => klDivergence!.toFixed(4)),
      Math.max(...moves.map(({ move }) => move)).toFixed(2),
      `${held} of ${moves.length}`,
    ]
  } finally {
    await full.close()
  }
}
