import { expect, test } from 'vitest'
import { textWidth } from '../../src/report/drawing/text.js'
import { sensitivityMap } from '../../src/report.js'

test('labels of the shades never run together, at any width', () => {
  const layers = Array.from({ length: 8 }, (_, i) => ({
    name: `model.layers.${i}.mlp.up_proj`,
    value: 0.00123 * (i + 1),
  }))
  for (const width of [320, 400, 560, 900]) {
    const svg = sensitivityMap(layers, { width })
    const labels = Array.from(
      svg.matchAll(/<text text-anchor="middle" font-size="11" y="[\d.]+" x="([\d.]+)">([^<]*)</g),
      ([, x, text]) => ({ x: Number(x), half: textWidth(text, 11) / 2 }),
    )
    expect(labels.length).toBeGreaterThan(2)
    for (const [i, { x, half }] of labels.entries()) {
      if (i > 0) expect(labels[i - 1].x + labels[i - 1].half).toBeLessThan(x - half - 4)
    }
  }
})
