import * as Plot from '@observablehq/plot'
import { type OptionNames, requireObject, requireOneOf } from '../common/check-option.js'
import { OptionError } from '../common/errors.js'
import {
  type PictureOptions,
  pictureOptionNames,
  pictureWidth,
  requireFigure,
  requireNames,
  requireSome,
} from './check.js'
import { type Canvas, createCanvas, LABEL_SIZE } from './drawing/canvas.js'
import { cleanText, fitText, formatNumber, textWidth } from './drawing/text.js'
import { HEAT_STEPS } from './drawing/theme.js'
import { layerBlocks, layerKinds, layerPlace } from './layer-place.js'

/** A layer and what it is shaded by. */
export interface LayerValue {
  /** E.g. `'model.layers.0.mlp.up_proj'`: block and kind are read from it. */
  readonly name: string
  /** Null where it was not measured. */
  readonly value: number | null
}

/** Options of {@link sensitivityMap}. */
export interface SensitivityMapOptions extends PictureOptions {
  /** What the values are, with their unit, default `'relative error'`. */
  measure?: string
  /** `'log'` (values above 0 only) shades each factor alike, `'linear'` (default) each difference. */
  scale?: 'linear' | 'log'
}

const optionNames: OptionNames<SensitivityMapOptions> = { ...pictureOptionNames, measure: true, scale: true }

const ROW_HEIGHT = 24
const MARGIN = { marginTop: 24, marginRight: 4, marginBottom: 4 }
const LEGEND_LEFT = 24
const MOST_STEP = 48
const SHADE_TEXT = 11
const SHADE_GAP = 5
/** Between the values of neighbouring cells, so that they do not read as one. */
const VALUE_GAP = 6

/** A layer in its row and column. */
interface Cell {
  readonly name: string
  readonly row: string
  readonly column: string
  readonly value: number | null
  /** Number of its shade, counted from 1. */
  readonly step: number
}

/**
 * Draws a value of each layer as a shade, one row per block and one column per kind, with the value written in it:
 * where a model bears quantization worst.
 *
 * @returns an SVG as text, readable in light, dark and print
 * @throws OptionError when there is no layer, two have the same place, or a value cannot be shaded on the scale
 */
export function sensitivityMap(layers: readonly LayerValue[], options: SensitivityMapOptions = {}): string {
  requireObject('options', options)
  const { measure = 'relative error', scale = 'linear' } = options
  requireOneOf('scale', scale, ['linear', 'log'])
  checkLayers(layers, scale)
  const { kinds, names } = layerKinds(layers.map(({ name }) => name))
  const rows = layerBlocks(layers.map(({ name }) => name)).map(rowLabel)
  const asked = pictureWidth(options, 560, optionNames)
  const measured = layers.flatMap(({ value }) => (value === null ? [] : [value]))
  const edges = shadeEdges(measured, scale)
  const cells = layers.map(({ name, value }): Cell => {
    const { block, kind } = layerPlace(name)
    const step = value === null ? 1 : 1 + edges.filter((edge) => value > edge).length
    return { name, row: rowLabel(block), column: names[kinds.indexOf(kind)], value, step }
  })
  const canvas = createCanvas(asked, {
    title: options.title ?? `Sensitivity: ${measure} by block and kind`,
    notes: measured.length < layers.length ? ['– : not measured'] : [],
    description: describe(cells, measure),
  })
  const top = drawShades(canvas, measured, edges)
  const height = MARGIN.marginTop + MARGIN.marginBottom + rows.length * ROW_HEIGHT
  canvas.plot(0, top, mapPlot(cells, rows, names, asked, height))
  return canvas.finish(top + height)
}

function checkLayers(layers: readonly LayerValue[], scale: 'linear' | 'log'): void {
  requireSome('layers', layers, 'layer')
  requireNames('layers', layers)
  const places = new Map<string, string>()
  for (const { name, value } of layers) {
    const { block, kind } = layerPlace(name)
    const other = places.get(`${block} ${kind}`)
    if (other !== undefined) {
      throw new OptionError(
        'layers',
        `${other} and ${name} have the same block and kind; expected one layer in each place`,
      )
    }
    places.set(`${block} ${kind}`, name)
    if (value === null) continue
    requireFigure('layers', value, `value of ${name}`)
    if (scale === 'log' && value <= 0) {
      throw new OptionError('scale', `'log' needs values above 0, ${name} has ${value}; use 'linear'`)
    }
  }
}

function rowLabel(block: number | null): string {
  return block === null ? 'others' : `block ${block}`
}

/** The values between the shades: even steps, or on a logarithmic scale even factors, from the least to the greatest. */
function shadeEdges(values: readonly number[], scale: 'linear' | 'log'): number[] {
  if (values.length === 0) return []
  const [forth, back] = scale === 'log' ? [Math.log, Math.exp] : [Number, Number]
  const low = forth(Math.min(...values))
  const high = forth(Math.max(...values))
  if (low === high) return []
  return Array.from({ length: HEAT_STEPS - 1 }, (_, i) => back(low + ((high - low) * (i + 1)) / HEAT_STEPS))
}

/** The legend: every shade with the values between which it stands. */
function drawShades(
  canvas: Canvas & { readonly top: number },
  values: readonly number[],
  edges: readonly number[],
): number {
  const { top } = canvas
  if (edges.length === 0) return top
  const step = Math.min(MOST_STEP, (canvas.width - 2 * LEGEND_LEFT) / HEAT_STEPS)
  for (let i = 0; i < HEAT_STEPS; i++) {
    const place = { x: LEGEND_LEFT + i * step, y: top + 2, width: step, height: 12 }
    canvas.add('rect', { ...place, fill: `var(--heat-${i + 1})`, stroke: 'var(--line)' })
  }
  const bounds = [Math.min(...values), ...edges, Math.max(...values)].map((bound) => formatNumber(bound, 2))
  const widest = Math.max(...bounds.map((text) => textWidth(text, SHADE_TEXT)))
  // where they would run together every other one is left out
  const every = widest + SHADE_GAP > step ? 2 : 1
  for (const [i, bound] of bounds.entries()) {
    if ((bounds.length - 1 - i) % every !== 0) continue
    const place = { x: LEGEND_LEFT + i * step, y: top + 27, 'font-size': SHADE_TEXT, 'text-anchor': 'middle' }
    canvas.add('text', place, bound)
  }
  return top + 36
}

function mapPlot(
  cells: readonly Cell[],
  rows: readonly string[],
  columns: readonly string[],
  width: number,
  height: number,
): Plot.PlotOptions {
  const marginLeft = Math.ceil(Math.max(...rows.map((row) => textWidth(row, LABEL_SIZE)))) + 12
  const cellWidth = (width - marginLeft - MARGIN.marginRight) / columns.length
  const valueSize = cellWidth < 44 ? 10 : 12
  const fits = (digits: number) =>
    cells.every(({ value }) => textWidth(textOf(value, digits), valueSize) <= cellWidth - VALUE_GAP)
  const digits = [3, 2, 1].find(fits)
  const place = { x: 'column', y: 'row' }
  return {
    ...MARGIN,
    marginLeft,
    width,
    height,
    x: {
      domain: columns,
      axis: 'top',
      label: null,
      padding: 0.04,
      tickSize: 0,
      tickFormat: (name: string) => fitText(cleanText(name), cellWidth, LABEL_SIZE),
    },
    y: { domain: rows, label: null, padding: 0.08, tickSize: 0 },
    marks: [
      Plot.cell(cells, {
        ...place,
        fill: ({ step, value }: Cell) => (value === null ? 'none' : `var(--heat-${step})`),
        stroke: 'var(--line)',
        title: ({ name, value }: Cell) => `${cleanText(name)}: ${textOf(value)}`,
        className: 'gptvq-layers',
      }),
      ...(digits !== undefined
        ? [
            Plot.text(cells, {
              ...place,
              text: ({ value }: Cell) => textOf(value, digits),
              fill: ({ step }: Cell) => `var(--heat-ink-${step})`,
              fontSize: valueSize,
            }),
          ]
        : []),
    ],
  }
}

function textOf(value: number | null, digits = 3): string {
  return value === null ? '–' : formatNumber(value, digits)
}

function describe(cells: readonly Cell[], measure: string): string {
  const worst = cells.reduce((most, cell) =>
    (cell.value ?? -Infinity) > (most.value ?? -Infinity) ? cell : most,
  )
  if (worst.value === null) return `${cells.length} layers, none measured`
  return `${cells.length} layers; ${measure} is greatest for ${worst.name}, ${formatNumber(worst.value)}`
}
