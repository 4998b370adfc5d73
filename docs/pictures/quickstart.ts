/**
 * Draws what the quickstart measured. Reads its JSON from standard input and writes quickstart.svg beside this file:
 * `npm run --silent quickstart -- --json | npx tsx docs/pictures/quickstart.ts`
 */
import { writeFile } from 'node:fs/promises'
import { text } from 'node:stream/consumers'
import * as Plot from '@observablehq/plot'
import { parseHTML } from 'linkedom'

interface Row {
  name: string
  bitsPerValue: number
  scores: { perplexity: number; klDivergence: number }
}

const { rows }: { rows: Row[] } = JSON.parse(await text(process.stdin))
const full = rows[0]
const bars = rows
  .slice(1, -1)
  .map(({ name, bitsPerValue, scores }) => ({ label: `${name}, ${bitsPerValue.toFixed(2)} bits`, ...scores }))

const plot = Plot.plot({
  document: parseHTML('<html><body></body></html>').document,
  width: 680,
  height: 200,
  marginBottom: 46,
  marginLeft: 150,
  marginRight: 130,
  marginTop: 8,
  style: { background: 'white', color: '#222', fontSize: '13px', fontFamily: 'system-ui, sans-serif' },
  x: {
    label: 'KL divergence to the full model, nats per token (less is better) →',
    domain: [0, 0.32],
    grid: true,
  },
  y: { label: null, domain: bars.map(({ label }) => label) },
  marks: [
    Plot.barX(bars, {
      x: 'klDivergence',
      y: 'label',
      fill: (bar) => (bar.label.startsWith('GPTVQ') ? '#0072b2' : '#b0b0b0'),
    }),
    Plot.text(bars, {
      x: 'klDivergence',
      y: 'label',
      text: (bar) => `${bar.klDivergence.toFixed(3)}  (perplexity ${bar.perplexity.toFixed(1)})`,
      textAnchor: 'start',
      dx: 6,
    }),
    Plot.ruleX([0]),
  ],
})
plot.setAttribute('xmlns', 'http://www.w3.org/2000/svg')
plot.setAttribute('role', 'img')
plot.setAttribute(
  'aria-label',
  `KL divergence by method; the full model has perplexity ${full.scores.perplexity.toFixed(1)}`,
)
await writeFile(new URL('quickstart.svg', import.meta.url), `${plot.outerHTML}\n`)
