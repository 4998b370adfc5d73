/**
 * Draws the accuracy benchmark: error against bits per value. Reads the results of `npm run bench` and writes
 * pareto.svg beside this file: `npm run bench -- accuracy --json FILE && npx tsx docs/pictures/pareto.ts FILE`
 */
import { readFile, writeFile } from 'node:fs/promises'
import * as Plot from '@observablehq/plot'
import { parseHTML } from 'linkedom'
import type { BenchmarkFile, Table } from '../../benchmarks/common/report.js'

interface Point {
  readonly method: string
  readonly bits: number
  readonly snr: number
}

/** Okabe and Ito's colours, told apart by shape and dash too; the methods of this package are drawn heavier. */
const styles = [
  { method: 'GPTVQ 4-D', color: '#0072b2', symbol: 'circle', dash: '', own: true },
  { method: 'GPTVQ 2-D', color: '#009e73', symbol: 'square2', dash: '', own: true },
  { method: 'GPTVQ 1-D', color: '#d55e00', symbol: 'triangle', dash: '', own: true },
  { method: 'GPTQ', color: '#222222', symbol: 'diamond2', dash: '7 3', own: false },
  { method: 'RTN', color: '#767676', symbol: 'times', dash: '7 3', own: false },
  { method: 'k-means 2-D', color: '#b2629b', symbol: 'plus', dash: '2 3', own: false },
] as const

const panels = [
  { id: 'real-layers', title: 'Layers of the embedded model' },
  { id: 'heavy-tailed', title: 'Synthetic layer, heavy-tailed weights' },
]

const file = process.argv[2]
if (file === undefined) {
  console.error(
    'usage: npx tsx docs/pictures/pareto.ts FILE, written by npm run bench -- accuracy --json FILE',
  )
  process.exit(2)
}
const { suites }: BenchmarkFile = JSON.parse(await readFile(file, 'utf8'))
const { document } = parseHTML('<html><body></body></html>')
const [width, height, legendHeight] = [860, 416, 48]
type SvgElement = ReturnType<typeof document.createElementNS>
const panelWidth = width / panels.length

const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
setAttributes(svg, {
  xmlns: 'http://www.w3.org/2000/svg',
  viewBox: `0 0 ${width} ${height + legendHeight}`,
  width,
  height: height + legendHeight,
  role: 'img',
  'aria-label': description(),
  'font-family': 'system-ui, sans-serif',
})
// a background of its own: the picture is shown on light and dark pages
add(svg, 'rect', { width: '100%', height: '100%', fill: 'white' })
drawLegend()
for (const [i, panel] of panels.entries()) {
  const group = add(svg, 'g', { transform: `translate(${i * panelWidth}, ${legendHeight})` })
  group.appendChild(plotOf(pointsOf(panel.id), panel.title))
}
await writeFile(new URL('pareto.svg', import.meta.url), `${svg.outerHTML}\n`)

function pointsOf(id: string): Point[] {
  const table = suites.accuracy?.tables.find((candidate: Table) => candidate.id === id)
  if (table === undefined) throw new Error(`${file}: found no table ${id}; run the suite accuracy`)
  return table.rows as unknown as Point[]
}

function plotOf(points: readonly Point[], title: string) {
  const drawn = styles.map((style) => ({
    ...style,
    points: points.filter(({ method }) => method === style.method).sort((a, b) => a.bits - b.bits),
  }))
  return Plot.plot({
    document,
    width: panelWidth,
    height,
    marginTop: 62,
    marginBottom: 48,
    marginLeft: 52,
    marginRight: 16,
    style: { background: 'white', color: '#222', fontSize: '13px', fontFamily: 'system-ui, sans-serif' },
    x: {
      label: 'bits per value, all stored bytes counted →',
      labelAnchor: 'right',
      labelArrow: 'none',
      domain: [2, 4.5],
      ticks: [2, 2.5, 3, 3.5, 4, 4.5],
      grid: true,
    },
    y: { label: null, grid: true, nice: true, zero: false },
    marks: [
      Plot.text([title], { frameAnchor: 'top-left', dx: -44, dy: -48, fontSize: 14, fontWeight: 600 }),
      Plot.text(['↑ signal to noise, dB'], { frameAnchor: 'top-left', dx: -44, dy: -24 }),
      ...drawn.map(({ points, color, dash, own }) =>
        Plot.line(points, {
          x: 'bits',
          y: 'snr',
          stroke: color,
          strokeWidth: own ? 2.2 : 1.4,
          strokeDasharray: dash,
        }),
      ),
      ...drawn.map(({ points, color, symbol, own }) =>
        Plot.dot(points, {
          x: 'bits',
          y: 'snr',
          symbol,
          r: 4.5,
          stroke: color,
          strokeWidth: 1.8,
          fill: own ? color : 'white',
        }),
      ),
    ],
  })
}

/** One entry per method: a piece of its line with its mark, and its name. */
function drawLegend(): void {
  const step = width / styles.length
  for (const [i, { method, color, symbol, dash, own }] of styles.entries()) {
    const entry = Plot.plot({
      document,
      width: step,
      height: 30,
      margin: 0,
      x: { axis: null, domain: [0, step] },
      y: { axis: null, domain: [0, 1] },
      style: { background: 'white', color: '#222', fontSize: '13px', fontFamily: 'system-ui, sans-serif' },
      marks: [
        Plot.link([0], {
          x1: 12,
          x2: 44,
          y: 0.5,
          stroke: color,
          strokeWidth: own ? 2.2 : 1.4,
          strokeDasharray: dash,
        }),
        Plot.dot([0], {
          x: 28,
          y: 0.5,
          symbol,
          r: 4.5,
          stroke: color,
          strokeWidth: 1.8,
          fill: own ? color : 'white',
        }),
        Plot.text([method], { x: 52, y: 0.5, textAnchor: 'start' }),
      ],
    })
    add(svg, 'g', { transform: `translate(${i * step}, 14)` }).appendChild(entry)
  }
}

function description(): string {
  const at = (method: string) =>
    pointsOf('real-layers')
      .filter((point) => point.method === method)
      .sort((a, b) => a.bits - b.bits)[0]
  const [gptvq, gptq] = [at('GPTVQ 2-D'), at('GPTQ')]
  return (
    'Signal-to-noise ratio against bits per value for GPTVQ, GPTQ, RTN and plain k-means; on layers of the embedded ' +
    `model at ${gptvq.bits.toFixed(2)} bits GPTVQ 2-D has ${gptvq.snr.toFixed(1)} dB, ` +
    `at ${gptq.bits.toFixed(2)} bits GPTQ has ${gptq.snr.toFixed(1)} dB`
  )
}

function add(parent: SvgElement, name: string, attributes: Record<string, string | number>): SvgElement {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name)
  setAttributes(element, attributes)
  parent.appendChild(element)
  return element
}

function setAttributes(element: SvgElement, attributes: Record<string, string | number>): void {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value))
}
