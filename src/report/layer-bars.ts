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
import { drawLegend } from './drawing/legend.js'
import { cleanText, formatNumber, textWidth } from './drawing/text.js'
import { seriesStyle } from './drawing/theme.js'
import { type LayerKinds, layerBlocks, layerKinds, layerPlace } from './layer-place.js'

/** A layer and how far its outputs moved. */
export interface LayerError {
  /** E.g. `'model.layers.0.mlp.up_proj'`: block and kind are read from it. */
  readonly name: string
  /** `L / tr(W H W^T)`, 0 or more; null where it was not measured. */
  readonly relativeError: number | null
}

/** Options of {@link layerBars}. */
export interface LayerBarsOptions extends PictureOptions {
  /** `'error'` draws the relative error, `'snr'` (default) the signal-to-noise ratio in dB, more is better. */
  measure?: 'error' | 'snr'
}

const optionNames: OptionNames<LayerBarsOptions> = { ...pictureOptionNames, measure: true }

/** Least width of a bar with the gap beside it, in pixels, so that the mark below it can be read. */
const LEAST_SLOT = 11
const MOST_SLOT = 30
const BLOCK_GAP = 12
const ROW_HEIGHT = 160
const LOW_ROW_HEIGHT = 124
const MARGIN = { marginLeft: 44, marginRight: 4, marginTop: 12, marginBottom: 40 }

/** A layer as it is drawn; its place is in pixels from the left edge of the frame. */
interface Bar {
  readonly name: string
  readonly kind: number
  /** Null when it was not measured, Infinity for an exact layer. */
  readonly value: number | null
  readonly x: number
}

interface Row {
  readonly bars: readonly Bar[]
  /** What stands below the middle of each block. */
  readonly blocks: readonly { readonly label: string; readonly x: number }[]
}

/**
 * Draws one bar per layer, grouped by block and coloured by kind; the letter below a bar says its kind too. Blocks
 * that do not fit side by side go on in further rows of the same scale.
 *
 * @returns an SVG as text, readable in light, dark and print
 * @throws OptionError when there is no layer, a name comes twice, or an error is not a number of at least 0
 */
export function layerBars(layers: readonly LayerError[], options: LayerBarsOptions = {}): string {
  requireObject('options', options)
  const { measure = 'snr' } = options
  requireOneOf('measure', measure, ['error', 'snr'])
  checkLayers(layers)
  const width = pictureWidth(options, 720, optionNames)
  const kinds = layerKinds(layers.map(({ name }) => name))
  const { rows, slot } = arrange(layers, kinds, measure, width - MARGIN.marginLeft - MARGIN.marginRight)
  const bars = rows.flatMap((row) => row.bars)
  const canvas = createCanvas(width, {
    title: options.title ?? `${measure === 'snr' ? 'Signal to noise' : 'Relative error'} of each layer`,
    description: describe(bars, measure),
  })
  let y = drawKinds(canvas, kinds) + 14
  const label = measure === 'snr' ? 'signal to noise, dB (more is better)' : 'relative error (less is better)'
  canvas.add('text', { x: 4, y }, label)
  const finite = bars.flatMap(({ value }) => (value !== null && Number.isFinite(value) ? [value] : []))
  const domain: [number, number] = [Math.min(0, ...finite), Math.max(0, ...finite) || 1]
  const height = rows.length > 3 ? LOW_ROW_HEIGHT : ROW_HEIGHT
  for (const row of rows) {
    canvas.plot(0, y, rowPlot(row, kinds, slot, domain, measure, width, height))
    y += height
  }
  return canvas.finish(y)
}

function checkLayers(layers: readonly LayerError[]): void {
  requireSome('layers', layers, 'layer')
  requireNames('layers', layers)
  const names = new Set<string>()
  for (const { name, relativeError } of layers) {
    if (names.has(name)) throw new OptionError('layers', `${name} comes twice; expected each layer once`)
    names.add(name)
    if (relativeError !== null) requireFigure('layers', relativeError, `relativeError of ${name}`, 0)
  }
}

/** Puts the blocks side by side in as few rows as keep the bars wide enough, all blocks of the same width. */
function arrange(
  layers: readonly LayerError[],
  { kinds }: LayerKinds,
  measure: 'error' | 'snr',
  inner: number,
): { rows: Row[]; slot: number } {
  const blocks = layerBlocks(layers.map(({ name }) => name)).map((block) => ({
    label: block === null ? 'others' : `block ${block}`,
    layers: layers.filter(({ name }) => layerPlace(name).block === block),
  }))
  const most = Math.max(...blocks.map((block) => block.layers.length))
  const labelWidth = 8 + Math.max(...blocks.map(({ label }) => textWidth(label, LABEL_SIZE)))
  const fitting = Math.max(1, Math.floor(inner / Math.max(most * LEAST_SLOT + BLOCK_GAP, labelWidth)))
  const rowCount = Math.ceil(blocks.length / fitting)
  const perRow = Math.ceil(blocks.length / rowCount)
  const slot = Math.min(MOST_SLOT, (inner / perRow - BLOCK_GAP) / most)
  const blockWidth = Math.max(most * slot + BLOCK_GAP, labelWidth)
  const rows = Array.from({ length: rowCount }, (_, row): Row => {
    const inRow = blocks.slice(row * perRow, (row + 1) * perRow)
    return {
      bars: inRow.flatMap((block, b) =>
        block.layers.map(({ name, relativeError }, i) => ({
          name,
          kind: kinds.indexOf(layerPlace(name).kind),
          value: relativeError === null || measure === 'error' ? relativeError : snrDb(relativeError),
          x: b * blockWidth + BLOCK_GAP / 2 + i * slot,
        })),
      ),
      blocks: inRow.map((block, b) => ({
        label: block.label,
        x: b * blockWidth + BLOCK_GAP / 2 + (block.layers.length * slot) / 2,
      })),
    }
  })
  return { rows, slot }
}

/** `-10 log10(relativeError)`, Infinity for an exact layer. */
function snrDb(relativeError: number): number {
  return relativeError === 0 ? Infinity : -10 * Math.log10(relativeError)
}

function rowPlot(
  { bars, blocks }: Row,
  { marks }: LayerKinds,
  slot: number,
  domain: readonly [number, number],
  measure: 'error' | 'snr',
  width: number,
  rowHeight: number,
): Plot.PlotOptions {
  const inset = slot >= 8 ? 1 : 0.3
  const height = ({ value }: Bar) => (value === null ? 0 : Math.min(value, domain[1]))
  const special = bars.filter(({ value }) => value === null || !Number.isFinite(value))
  const middle = (bar: Bar) => bar.x + slot / 2
  const below = { y: domain[0], lineAnchor: 'top' as const }
  return {
    ...MARGIN,
    width,
    height: rowHeight,
    x: { axis: null, domain: [0, width - MARGIN.marginLeft - MARGIN.marginRight] },
    y: { domain: [...domain], nice: true, ticks: 4, grid: true, label: null },
    marks: [
      Plot.rect(bars, {
        x1: (bar: Bar) => bar.x + inset,
        x2: (bar: Bar) => bar.x + slot - inset,
        y1: 0,
        y2: height,
        fill: (bar: Bar) => seriesStyle(bar.kind).color,
        stroke: 'var(--ink)',
        strokeWidth: 0.5,
        title: (bar: Bar) => `${cleanText(bar.name)}: ${valueText(bar.value, measure)}`,
        className: 'gptvq-layers',
      }),
      Plot.text(special, {
        x: middle,
        y: height,
        dy: -6,
        text: ({ value }: Bar) => (value === null ? '?' : '∞'),
      }),
      Plot.ruleY([0], { stroke: 'var(--ink)' }),
      ...(slot >= 9
        ? [Plot.text(bars, { ...below, x: middle, dy: 5, text: (bar: Bar) => marks[bar.kind] })]
        : []),
      Plot.text(blocks, { ...below, x: 'x', dy: 22, text: 'label', fill: 'var(--muted)' }),
    ],
  }
}

function drawKinds(canvas: Canvas & { readonly top: number }, { names, marks }: LayerKinds): number {
  const entries = names.map((name, i) => ({
    label: name.startsWith(marks[i]) ? name : `${marks[i]}: ${name}`,
    marks: [
      Plot.rect([0], {
        x1: 8,
        x2: 22,
        y1: 1,
        y2: 13,
        fill: seriesStyle(i).color,
        stroke: 'var(--ink)',
        strokeWidth: 0.5,
      }),
    ],
  }))
  return drawLegend(canvas, 0, canvas.top, canvas.width, entries)
}

function valueText(value: number | null, measure: 'error' | 'snr'): string {
  if (value === null) return 'not measured'
  return measure === 'snr' ? `${formatNumber(value)} dB` : formatNumber(value)
}

function describe(bars: readonly Bar[], measure: 'error' | 'snr'): string {
  const measured = bars.filter(({ value }) => value !== null)
  const order = measured.sort((a, b) => (a.value ?? 0) - (b.value ?? 0))
  if (order.length === 0) return `${bars.length} layers, none measured`
  const said = (bar: Bar) => `${bar.name} ${valueText(bar.value, measure)}`
  return `${bars.length} layers, from ${said(order[0])} to ${said(order[order.length - 1])}`
}
