import * as Plot from '@observablehq/plot'
import { DOMParser } from 'linkedom'
import { cleanText, wrapLines } from './text.js'
import { schemeRules } from './theme.js'

/** What is used of a DOM element. The library's own types are those of a browser, which a Node project has not. */
export interface SvgElement {
  readonly tagName: string
  readonly attributes: Iterable<{ name: string; value: string }>
  readonly childNodes: Iterable<SvgElement>
  readonly outerHTML: string
  textContent: string
  setAttribute(name: string, value: string): void
  appendChild(child: SvgElement): void
}

export type PlotOptions = NonNullable<Parameters<typeof Plot.plot>[0]>

/** A picture being drawn: elements are added from top to bottom, the height follows from them. */
export interface Canvas {
  readonly width: number
  /** Adds an element with its attributes. */
  add(name: string, attributes: Readonly<Record<string, string | number>>, text?: string): SvgElement
  /** Adds a plot with its top left corner at (x, y). */
  plot(x: number, y: number, options: PlotOptions): void
  /** The picture as text, `height` pixels high. */
  finish(height: number): string
}

/** What every picture says of itself. */
export interface Heading {
  /** Set in bold above the picture. */
  readonly title: string
  /** Small lines below the title. */
  readonly notes?: readonly string[]
  /** What the picture shows, for those who do not see it. */
  readonly description: string
}

const SVG_NAMESPACE = 'http://www.w3.org/2000/svg'
const TITLE_SIZE = 15
const NOTE_SIZE = 12

/** Size of labels and ticks. */
export const LABEL_SIZE = 12

/** Attributes that hold nothing but numbers and letters of path commands. */
const NUMERIC =
  /^(d|transform|points|x|y|x1|x2|y1|y2|cx|cy|r|width|height|stroke-width|fill-opacity|stroke-opacity)$/

/** An empty picture; its background, title and colours are those of the theme. */
export function createCanvas(width: number, heading: Heading): Canvas & { readonly top: number } {
  // an XML document: it escapes `<` and `&` in attributes too
  const document = new DOMParser().parseFromString('<svg/>', 'image/svg+xml')
  const element = (name: string) =>
    document.createElementNS(SVG_NAMESPACE, name, undefined) as unknown as SvgElement
  const svg = element('svg')
  const add: Canvas['add'] = (name, attributes, text) => {
    const child = element(name)
    for (const [attribute, value] of Object.entries(attributes)) child.setAttribute(attribute, String(value))
    if (text !== undefined) child.textContent = cleanText(text)
    svg.appendChild(child)
    return child
  }
  add('title', {}, heading.title)
  add('style', {}).textContent = pictureStyle
  add('rect', { width: '100%', height: '100%', fill: 'var(--paper)' })
  const top = addHeading(add, width, heading)
  return {
    width,
    top,
    add,
    plot(x, y, options) {
      const drawn = Plot.plot({ ...options, document }) as unknown as SvgElement
      const group = add('g', { transform: `translate(${x},${y})`, 'font-size': LABEL_SIZE })
      group.setAttribute('text-anchor', 'middle')
      // the style of its own that a plot carries would change how the whole picture is laid out
      for (const child of [...drawn.childNodes]) {
        if (child.tagName.toLowerCase() !== 'style') group.appendChild(child)
      }
    },
    finish(bottom) {
      const height = bottom + 6
      const size = { width, height: Math.ceil(height), viewBox: `0 0 ${width} ${Math.ceil(height)}` }
      const label = cleanText(`${heading.title}. ${heading.description}`)
      const names = { xmlns: SVG_NAMESPACE, class: 'gptvq-picture', role: 'img', 'aria-label': label }
      for (const [name, value] of Object.entries({ ...names, ...size })) svg.setAttribute(name, String(value))
      roundNumbers(svg)
      return svg.outerHTML
    },
  }
}

/** Style rules of all pictures; each carries them, so that it can stand alone. */
export const pictureStyle =
  `${schemeRules('.gptvq-picture')}.gptvq-picture{color:var(--ink);fill:currentColor;--plot-background:var(--paper);` +
  `font:${LABEL_SIZE}px system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;` +
  'print-color-adjust:exact;-webkit-print-color-adjust:exact}.gptvq-picture text{white-space:pre}'

function addHeading(add: Canvas['add'], width: number, { title, notes = [] }: Heading): number {
  let y = 8
  for (const line of wrapLines(cleanText(title), width - 8, TITLE_SIZE * 1.16)) {
    y += TITLE_SIZE + 3
    add('text', { x: 4, y: y - 4, 'font-size': TITLE_SIZE, 'font-weight': 600 }, line)
  }
  for (const note of notes) {
    for (const line of wrapLines(cleanText(note), width - 8, NOTE_SIZE)) {
      y += NOTE_SIZE + 4
      add('text', { x: 4, y: y - 3, 'font-size': NOTE_SIZE, fill: 'var(--muted)' }, line)
    }
  }
  return y + 6
}

/** A tenth of a pixel is more than anyone sees; further digits would only make the text long. */
function roundNumbers(element: SvgElement): void {
  for (const { name, value } of element.attributes ?? []) {
    if (!NUMERIC.test(name) || !value.includes('.')) continue
    const rounded = value.replace(/-?\d*\.\d{2,}(e-?\d+)?/g, (number) =>
      round(Number(number), name === 'd' ? 1 : 2),
    )
    element.setAttribute(name, rounded)
  }
  for (const child of element.childNodes) roundNumbers(child)
}

function round(value: number, decimals: number): string {
  const scale = 10 ** decimals
  // `+ 0` turns -0 into 0
  return String(Math.round(value * scale) / scale + 0)
}

/** Writes what an axis shows above its upper end, from y on, in as many lines as it takes. @returns the y below it */
export function drawAxisTitle(canvas: Canvas, y: number, text: string): number {
  const lines = wrapLines(cleanText(text), canvas.width - 8, LABEL_SIZE)
  for (const [i, line] of lines.entries()) canvas.add('text', { x: 4, y: y + 12 + 15 * i }, line)
  return y + 15 * lines.length
}
