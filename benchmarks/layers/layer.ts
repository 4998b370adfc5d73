import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { VqOptions } from 'gptvq'
import { threadCount } from '../../src/kernels/kernels.js'
import { medianOf, spreadOf, timingOf } from '../common/harness.js'
import type { Column, Row, Table } from '../common/report.js'
import type { SuiteOptions } from '../common/suites.js'
import { generatorInWords } from '../common/synthetic.js'
import type { LayerFigures, LayerRun, Phase } from './layer-run.js'

/** The paper's 2-D setting (100 EM iterations, codebook update), and what this package does unless told otherwise; less of that. */
const layerSettings: readonly { name: string; options: VqOptions }[] = [
  {
    name: 'paper',
    options: {
      kmeansInit: 'mahalanobis',
      kmeansTolerance: 0,
      scaleBlockSize: 'none',
      damping: 0.01,
      refinementRounds: 0,
    },
  },
  { name: 'plain', options: { trellisBits: 0 } },
  { name: 'trellis of 8 bits', options: { trellisBits: 4 } },
  { name: 'default', options: {} },
]

const phaseNames: readonly Phase[] = ['factor', 'codebooks', 'columns', 'update', 'refine', 'pack']

/** Float32 bytes of weights and Hessian below which a peak says nothing about them. */
const SMALLEST_MEASURABLE = 8e6

interface Shape {
  readonly rows: number
  readonly cols: number
}

/** A layer that was timed. */
interface Measured {
  readonly shape: Shape
  readonly settings: string
  readonly threads: number
  readonly figures: LayerFigures
  readonly idleBytes: number
}

/** Whole layers: how long, in which phase, in how much memory, and how that grows. */
export async function run({ quick, full, size }: SuiteOptions): Promise<Table[]> {
  const most = threadCount()
  const warmUp = quick ? 32 : 256
  const idleBytes = new Map<number, number>()
  for (const threads of [1, most]) {
    const idle = await inOwnProcess({ rows: 0, cols: 0, warmUp, threads, repeats: 0, options: {} })
    idleBytes.set(threads, idle.peakBytes)
  }
  const measured: Measured[] = []
  for (const shape of size === undefined ? shapes(quick, full) : [{ rows: size, cols: size }]) {
    for (const { name, options } of layerSettings) {
      for (const threads of size !== undefined ? [1] : quick ? [most] : threadCounts(shape, most)) {
        const repeats = shape.rows <= 2048 && !quick && size === undefined ? 3 : 1
        console.error(`layer: ${shape.rows} x ${shape.cols}, ${name}, threads: ${threads}`)
        const figures = await inOwnProcess({ ...shape, warmUp, threads, repeats, options })
        measured.push({ shape, settings: name, threads, figures, idleBytes: idleBytes.get(threads)! })
      }
    }
  }
  return [timeTable(measured), phaseTable(measured), growthTable(measured, most), memoryTable(measured)]
}

function shapes(quick: boolean, full: boolean): Shape[] {
  const square = (n: number): Shape => ({ rows: n, cols: n })
  if (quick) return [square(64), square(128)]
  const small = [square(512), square(1024), square(2048)]
  return full ? [...small, square(4096), { rows: 4096, cols: 11008 }] : small
}

/** One thread too where that does not take minutes. */
function threadCounts({ rows }: Shape, most: number): number[] {
  return most > 1 && rows <= 2048 ? [1, most] : [most]
}

function inOwnProcess(task: LayerRun): Promise<LayerFigures> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(new URL('layer-run.ts', import.meta.url)), [JSON.stringify(task)])
    let figures: LayerFigures | undefined
    child.on('message', (message) => {
      figures = message as LayerFigures
    })
    child.on('error', reject)
    child.on('exit', (code, signal) => {
      if (figures !== undefined && code === 0) resolve(figures)
      else
        reject(
          new Error(`a layer of ${task.rows} x ${task.cols} ended with ${signal ?? `exit code ${code}`}`),
        )
    })
  })
}

const nameColumns: readonly Column[] = [
  { key: 'layer', label: 'layer' },
  { key: 'settings', label: 'settings' },
  { key: 'threads', label: 'threads', decimals: 0 },
]
const keys = nameColumns.map(({ key }) => key)

function nameOf({ shape, settings, threads }: Measured): Row {
  return { layer: `${shape.rows} x ${shape.cols}`, settings, threads }
}

function timeTable(measured: readonly Measured[]): Table {
  return {
    id: 'layers',
    title: 'Whole layers',
    note:
      '2-D, 2 bits, at most 2.125 bits per value. `paper`: 100 EM iterations from Mahalanobis seeds, codebook update; ' +
      '`plain` (`trellisBits: 0`): three tries per codebook, block scales of 64, codebook update, up to 8 rounds of ' +
      'refinement; `default`: a trellis of 12 bits in the place of fitted codebooks; one of 8 bits has `trellisBits: 4`. ' +
      'Processor seconds are those of all threads. Error: relative, of the output under the Hessian. Product: `W H` by the kernels on the same threads, in the same process ' +
      `afterwards. Synthetic layers: ${generatorInWords}; the Hessian is that of inputs without end.`,
    columns: [
      ...nameColumns,
      { key: 'seconds', label: 'seconds', digits: 3 },
      { key: 'spread', label: 'spread %', decimals: 0 },
      { key: 'runs', label: 'runs', decimals: 0 },
      { key: 'processor', label: 'processor s', digits: 3 },
      { key: 'error', label: 'error', digits: 3 },
      { key: 'product', label: 'one product, s', digits: 3 },
      { key: 'products', label: 'in products', digits: 3 },
    ],
    rows: measured.map((layer): Row => {
      const timing = timingOf(layer.figures.seconds)
      const product = medianOf(layer.figures.productSeconds)
      return {
        ...nameOf(layer),
        ...timing,
        spread: spreadOf(timing),
        processor: medianOf(layer.figures.processorSeconds),
        error: layer.figures.error,
        product,
        products: timing.seconds / product,
      }
    }),
    keys,
    compared: 'seconds',
  }
}

function phaseTable(measured: readonly Measured[]): Table {
  return {
    id: 'phases',
    title: 'Phases of a layer, seconds',
    note:
      'factor: inverse Cholesky factor of the Hessian; codebooks: seeds and EM; columns: the walk with error feedback; ' +
      'update: codebook update by conjugate gradient, rounding; refine: indices, codebooks and scales in turn; ' +
      'pack: indices to bits.',
    columns: [
      ...nameColumns,
      ...phaseNames.map((phase) => ({ key: phase, label: phase, digits: 3 })),
      { key: 'seconds', label: 'all', digits: 3 },
    ],
    rows: measured.map(
      (layer): Row => ({
        ...nameOf(layer),
        ...Object.fromEntries(phaseNames.map((phase) => [phase, phaseSeconds(layer, phase)])),
        seconds: medianOf(layer.figures.seconds),
      }),
    ),
    keys,
    compared: 'seconds',
  }
}

/** The median over the runs; null for a phase that did not occur. */
function phaseSeconds({ figures }: Measured, phase: Phase): number | null {
  const samples = figures.phases.flatMap((run) => run[phase] ?? [])
  return samples.length === 0 ? null : medianOf(samples)
}

function growthTable(measured: readonly Measured[], most: number): Table {
  const square = measured.filter(({ shape, threads }) => shape.rows === shape.cols && threads === most)
  const rows = square.flatMap((small): Row[] => {
    const large = square.find(
      ({ shape, settings }) => shape.rows === 2 * small.shape.rows && settings === small.settings,
    )
    return large === undefined ? [] : [growth(small, large)]
  })
  return {
    id: 'growth',
    title: 'Growth with size',
    note:
      'Time at twice the size over time at the size, all threads. Cubic phases (factor, columns, update) do 8 times the ' +
      'work; codebooks, refinement at a fixed number of rounds and packing do 4 times, refinement with its products 8. ' +
      'Exponent: the logarithm to base 2 of the whole.',
    columns: [
      { key: 'layer', label: 'from' },
      { key: 'to', label: 'to' },
      { key: 'settings', label: 'settings' },
      { key: 'whole', label: 'whole', digits: 3 },
      { key: 'exponent', label: 'exponent', decimals: 2 },
      { key: 'cubic', label: 'factor, columns, update', digits: 3 },
      { key: 'square', label: 'codebooks, pack', digits: 3 },
      { key: 'refine', label: 'refine', digits: 3 },
    ],
    rows,
    keys: ['layer', 'settings'],
    compared: 'whole',
  }
}

function growth(small: Measured, large: Measured): Row {
  const ratio = (names: readonly Phase[]) => {
    const sum = (layer: Measured) =>
      names.reduce((total, phase) => total + (phaseSeconds(layer, phase) ?? Number.NaN), 0)
    const times = sum(large) / sum(small)
    return Number.isNaN(times) ? null : times
  }
  const whole = medianOf(large.figures.seconds) / medianOf(small.figures.seconds)
  return {
    ...nameOf(small),
    to: nameOf(large).layer,
    whole,
    exponent: Math.log2(whole),
    cubic: ratio(['factor', 'columns', 'update']),
    square: ratio(['codebooks', 'pack']),
    refine: ratio(['refine']),
  }
}

function memoryTable(measured: readonly Measured[]): Table {
  return {
    id: 'memory',
    title: 'Peak memory of a layer',
    note:
      'Largest resident set of the process less that of one that quantized nothing larger than the warm-up; weights and ' +
      'Hessian, which the caller holds, included. In inputs: over the float32 bytes of weights and Hessian, where these ' +
      'stand out from the few MB by which processes differ anyway.',
    columns: [
      ...nameColumns,
      { key: 'megabytes', label: 'peak MB', decimals: 0 },
      { key: 'inputs', label: 'weights and Hessian MB', decimals: 1 },
      { key: 'ratio', label: 'in inputs', digits: 3 },
    ],
    rows: measured.map((layer): Row => {
      const { rows, cols } = layer.shape
      const inputs = 4 * (rows * cols + cols * cols)
      const bytes = Math.max(0, layer.figures.peakBytes - layer.idleBytes)
      const ratio = inputs < SMALLEST_MEASURABLE ? null : bytes / inputs
      return { ...nameOf(layer), megabytes: bytes / 1e6, inputs: inputs / 1e6, ratio }
    }),
    keys,
    compared: 'megabytes',
  }
}
