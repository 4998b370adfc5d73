/**
 * What single options do, at the bits that they take: the tables of `docs/settings.md`.
 *
 * `npm run bench:settings -- [--markdown docs/settings.md] [--only TABLE]`
 */
import { parseArgs } from 'node:util'
import {
  bitsPerValue,
  dequantizeLayer,
  type LayoutOptions,
  packLayer,
  quantizeLayer,
  reconstructionError,
  type VqOptions,
} from 'gptvq'
import { layoutOf } from '../../src/packing/layout.js'
import { resolveLayoutOptions } from '../../src/packing/layout-options.js'
import { centroidsOf, emptyLayer } from '../../src/packing/vq-layer.js'
import { type BenchmarkLayer, realLayers } from '../common/real-layers.js'
import { tableOfCells, writeSection } from '../common/report.js'

const { values } = parseArgs({ options: { markdown: { type: 'string' }, only: { type: 'string' } } })
const seeds = [0, 1]
const layers = await realLayers(64, 4)
const sections: Record<string, () => string | Promise<string>> = {
  'bits-by-group': bitsByGroup,
  'bits-by-bpv': bitsByBpv,
  scales,
  order,
  damping,
  settings,
  trellis,
  singles,
}
for (const [id, make] of Object.entries(sections)) {
  if (values.only !== undefined && values.only !== id) continue
  const section = await make()
  if (values.markdown === undefined) console.log(`${id}\n\n${section}\n`)
  else await writeSection(values.markdown, id, section)
}
process.exit(0)

/** Total bits per value of a 4096 x 4096 layer by the size of its groups, without scales. */
function bitsByGroup(): string {
  const sizes = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 262144, 1048576]
  const shapes = [
    [1, 2, 8],
    [1, 3, 8],
    [1, 4, 8],
    [2, 2, 8],
    [2, 2, 16],
    [2, 3, 8],
    [2, 4, 8],
    [4, 2, 8],
    [4, 3, 8],
  ] as const
  const rows = shapes.map(([vectorDim, bits, codebookBits]) => {
    const k = 2 ** (bits * vectorDim)
    const totals = sizes.map((groupSize) =>
      k > groupSize / vectorDim
        ? '–'
        : shape(4096, 4096, {
            vectorDim,
            bits,
            codebookBits,
            groupSize,
            scaleBlockSize: 'none',
          }).total.toFixed(3),
    )
    return [`${vectorDim}`, `${bits}`, `${k}`, `${codebookBits}`, ...totals]
  })
  return tableOfCells(['d', 'bits', 'k', 'codebookBits', ...sizes.map(String)], rows, 2)
}

/** What `bpv` makes of layers. */
function bitsByBpv(): string {
  const dims = [1, 2, 4] as const
  const asked: [rows: number, cols: number, options: LayoutOptions][] = [
    ...[2, 3, 4].flatMap((bits) =>
      dims.map((vectorDim) => [4096, 4096, { vectorDim, bits }] as [number, number, LayoutOptions]),
    ),
    [4096, 4096, { codebookBits: 16 }],
    [4096, 4096, { scaleBlockSize: 'none' }],
    [4096, 4096, { scaleBlockSize: 32 }],
    [4096, 4096, { bpv: 2.25 }],
    [4096, 4096, { vectorDim: 4, bpv: 2.25 }],
    ...[
      [4096, 11008],
      [256, 256],
      [128, 256],
      [768, 256],
      [256, 768],
    ].flatMap(([rows, cols]) =>
      dims.map((vectorDim) => [rows, cols, { vectorDim }] as [number, number, LayoutOptions]),
    ),
  ]
  const header = ['layer', 'd', 'bits', 'options', 'k', 'rows per group', 'weights per group']
  const rows = asked.map(([rows, cols, { vectorDim = 2, bits = 2, ...rest }]) => {
    const { layout, index, codebook, scale, total } = shape(rows, cols, { vectorDim, bits, ...rest })
    return [
      `${rows} x ${cols}`,
      `${vectorDim}`,
      `${bits}`,
      optionsInWords(rest),
      `${centroidsOf(layout)}`,
      `${layout.rowsPerGroup}`,
      `${layout.rowsPerGroup * layout.columnsPerGroup}`,
      `${index}`,
      ...[codebook, scale, total].map((figure) => figure.toFixed(4)),
    ]
  })
  return tableOfCells([...header, 'index', 'codebook', 'scale', 'total'], rows, 4)
}

function shape(rows: number, cols: number, options: LayoutOptions) {
  const settings = resolveLayoutOptions(options)
  const layout = layoutOf(rows, cols, settings)
  return { layout, ...bitsPerValue(packLayer(emptyLayer(layout, settings.codebookBits))) }
}

/** Block scales of every size, and none, at the same bits in all. */
async function scales(): Promise<string> {
  const rows: string[][] = []
  const shapes: VqOptions[] = [
    { bpv: 2.125 },
    { bpv: 2.25 },
    { bpv: 2.5 },
    { vectorDim: 1, bpv: 2.125 },
    { vectorDim: 1, bpv: 2.5 },
    { vectorDim: 4, bpv: 2.5 },
    { bits: 3, bpv: 3.125 },
    { bits: 3, bpv: 3.5 },
    { bits: 4, bpv: 4.25 },
  ]
  for (const shape of shapes) {
    for (const scaleBlockSize of ['none', 128, 64, 32, 16] as const) {
      const left = shape.bpv! - (shape.bits ?? 2) - (scaleBlockSize === 'none' ? 0 : 4 / scaleBlockSize)
      // codebooks need some of the bits too
      if (left < 0.03) continue
      try {
        rows.push(await row({ ...shape, scaleBlockSize }))
      } catch {
        // a layer is too small for a codebook beside such scales
      }
    }
  }
  return errorTable(rows)
}

/** Activation order against natural order, by rounds of refinement. */
async function order(): Promise<string> {
  const rows: string[][] = []
  // with less there is no room for scales, an order and a codebook in the smallest of the layers
  for (const bpv of [2.1875, 2.25]) {
    for (const refinementRounds of [0, 2, 8]) {
      rows.push(await row({ bpv, refinementRounds }))
      rows.push(await row({ bpv, refinementRounds, columnOrder: 'activation' }))
    }
  }
  return errorTable(rows)
}

async function damping(): Promise<string> {
  const rows: string[][] = []
  for (const damping of [0.001, 0.01, 0.03, 0.1, 0.3, 1]) rows.push(await row({ damping }))
  return errorTable(rows)
}

/** One option after the other away from its default. */
async function settings(): Promise<string> {
  const asked: VqOptions[] = [
    {},
    { vectorDim: 1 },
    { vectorDim: 1, kmeansInit: 'cdf' },
    { vectorDim: 4, bpv: 2.5 },
    { vectorDim: 4, bpv: 2.5, kmeansInit: 'mahalanobis' },
    { bits: 3 },
    { bits: 3, kmeansInit: 'mahalanobis' },
    { codebookBits: 16 },
    { columnsPerGroup: 128 },
    { kmeansInit: 'mahalanobis' },
    { restarts: 1 },
    { restarts: 10 },
    { kmeansIterations: 10 },
    { kmeansTolerance: 1e-3 },
    { vectorMetric: 'diagonal' },
    { refinementRounds: 0, codebookUpdateSteps: 0 },
    { refinementRounds: 0 },
    { refinementRounds: 2 },
    { refinementRounds: 4 },
    { refinementRounds: 32, refinementTolerance: 0 },
  ]
  const rows: string[][] = []
  for (const options of asked) rows.push(await row(options))
  for (const sequences of [16, 4]) {
    rows.push(await row({}, await realLayers(sequences, 4, 64), `${sequences} sequences`))
  }
  return errorTable(rows)
}

/** Keys of more and more bits, and streams that start anew more often: a centroid is picked by the rows above too. */
async function trellis(): Promise<string> {
  const keyBits: readonly (readonly [vectorDim: 1 | 2 | 4, keyBits: readonly number[]])[] = [
    [1, [2, 4, 6, 8, 10, 12]],
    [2, [4, 6, 8, 10, 12]],
    [4, [8, 10, 12]],
  ]
  const asked: VqOptions[] = [
    ...keyBits.flatMap(([vectorDim, lengths]) =>
      lengths.map((length) => ({ vectorDim, trellisBits: length - 2 * vectorDim })),
    ),
    { vectorDim: 2, trellisBits: 8, indexWidths: 'same' },
    ...[128, 64, 16].map((rows) => ({ vectorDim: 2, trellisBits: 8, groupSize: 256 * rows }) as const),
  ]
  const rows: string[][] = []
  for (const options of asked) rows.push(await row(options))
  return errorTable(rows)
}

/** Single weights against pairs, with keys as long. */
async function singles(): Promise<string> {
  const rows: string[][] = []
  for (const bits of [2, 3, 3.5, 4, 4.5, 5]) {
    for (const vectorDim of [1, 2] as const) {
      const shape = { bits, vectorDim, trellisBits: 12 - Math.round(bits * vectorDim) }
      rows.push(await row(shape, layers, optionsInWords({ bits, vectorDim })))
    }
  }
  return errorTable(rows)
}

function errorTable(rows: readonly string[][]): string {
  return tableOfCells(['setting', 'bits per value', 'error, calibration', 'error, held out'], rows, 1)
}

/** Mean relative errors over the layers, and over the seeds of plain codebooks: a trellis draws nothing. */
async function row(
  options: VqOptions,
  measured: readonly BenchmarkLayer[] = layers,
  label = optionsInWords(options) || '`trellisBits: 0` alone',
): Promise<string[]> {
  console.error(label)
  let [bits, weights, error, heldOutError] = [0, 0, 0, 0]
  const { trellisBits = 0 } = options
  const drawn = trellisBits === 0 ? seeds : [0]
  for (const { weight, hessian, heldOut } of measured) {
    for (const seed of drawn) {
      const layer = await quantizeLayer(weight, hessian, { ...options, trellisBits, seed })
      const quantized = dequantizeLayer(layer)
      bits += bitsPerValue(packLayer(layer)).total * weight.data.length
      weights += weight.data.length
      error += reconstructionError(weight, quantized, hessian).relative
      heldOutError += reconstructionError(weight, quantized, heldOut).relative
    }
  }
  const runs = measured.length * drawn.length
  return [label, (bits / weights).toFixed(3), (error / runs).toFixed(5), (heldOutError / runs).toFixed(5)]
}

function optionsInWords(options: VqOptions): string {
  return Object.entries(options)
    .map(([option, value]) => `\`${option}: ${typeof value === 'string' ? `'${value}'` : value}\``)
    .join(', ')
}
