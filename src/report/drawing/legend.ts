import { type Canvas, LABEL_SIZE, type PlotOptions } from './canvas.js'
import { cleanText, fitText, textWidth } from './text.js'

/** One entry of a legend: its sign is drawn into a box of 26 x 14 pixels. */
export interface LegendEntry {
  readonly label: string
  /** Marks that are drawn in the coordinates of the box: x from 0 to 26, y from 0 to 14 downwards. */
  readonly marks: NonNullable<PlotOptions['marks']>
}

const SIGN_WIDTH = 26
const SIGN_HEIGHT = 14
const ENTRY_HEIGHT = 20

/** Draws a legend from (x, y) on, wrapped to `width`. @returns the y below it */
export function drawLegend(
  canvas: Canvas,
  x: number,
  y: number,
  width: number,
  entries: readonly LegendEntry[],
): number {
  let left = x
  let top = y
  for (const { label, marks } of entries) {
    const text = fitText(cleanText(label), width - SIGN_WIDTH - 6, LABEL_SIZE)
    const entryWidth = SIGN_WIDTH + 6 + textWidth(text, LABEL_SIZE) + 16
    if (left > x && left + entryWidth - 10 > x + width) {
      left = x
      top += ENTRY_HEIGHT
    }
    canvas.plot(left, top, {
      width: SIGN_WIDTH,
      height: SIGN_HEIGHT,
      margin: 0,
      x: { axis: null, domain: [0, SIGN_WIDTH] },
      y: { axis: null, domain: [SIGN_HEIGHT, 0] },
      marks,
    })
    canvas.add('text', { x: left + SIGN_WIDTH + 6, y: top + 11 }, text)
    left += entryWidth
  }
  return entries.length > 0 ? top + ENTRY_HEIGHT : y
}
