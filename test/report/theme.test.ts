import { describe, expect, test } from 'vitest'
import { schemeRules, schemes, seriesStyle } from '../../src/report/drawing/theme.js'

type Rgb = [number, number, number]

const linear = (color: string): Rgb => {
  const channel = (at: number) => {
    const value = Number.parseInt(color.slice(at, at + 2), 16) / 255
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
  }
  return [channel(1), channel(3), channel(5)]
}

const luminance = ([r, g, b]: Rgb) => 0.2126 * r + 0.7152 * g + 0.0722 * b

const contrast = (a: string, b: string) => {
  const [low, high] = [luminance(linear(a)), luminance(linear(b))].sort((x, y) => x - y)
  return (high + 0.05) / (low + 0.05)
}

/** What is seen without one kind of cones (Machado, Oliveira and Fernandes 2009, severity 1). */
const sights: Record<string, number[]> = {
  'full sight': [1, 0, 0, 0, 1, 0, 0, 0, 1],
  protanopia: [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998],
  deuteranopia: [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.01182, 0.04294, 0.968881],
  tritanopia: [1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.3039],
}

const seen = ([r, g, b]: Rgb, m: number[]): Rgb => {
  const row = (i: number) => Math.max(0, Math.min(1, m[i] * r + m[i + 1] * g + m[i + 2] * b))
  return [row(0), row(3), row(6)]
}

/** Ottosson's Oklab, in which equal distances look alike. */
const oklab = ([r, g, b]: Rgb): Rgb => {
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b)
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b)
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b)
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ]
}

const difference = (a: string, b: string, sight: number[]) => {
  const [p, q] = [a, b].map((color) => oklab(seen(linear(color), sight)))
  return Math.hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2])
}

describe.each(['light', 'dark'] as const)('the %s scheme', (name) => {
  const { paper, ink, muted, density, front, series, heat, heatInk } = schemes[name]

  test('texts stand out from the paper by 4.5 to 1, lines and symbols by 2.3 to 1', () => {
    for (const text of [ink, muted]) expect(contrast(text, paper)).toBeGreaterThan(4.5)
    for (const line of [...series, density, front]) expect(contrast(line, paper)).toBeGreaterThan(2.3)
    for (const [i, shade] of heat.entries()) expect(contrast(heatInk[i], shade)).toBeGreaterThan(3.7)
  })

  test.each(Object.keys(sights))('any two series differ under %s', (sight) => {
    for (const [i, color] of series.entries()) {
      for (const other of series.slice(i + 1)) {
        expect({ color, other, difference: difference(color, other, sights[sight]) }).toSatisfy(
          (pair: { difference: number }) => pair.difference > 0.06,
        )
      }
    }
  })

  test('shades of a heat map go one way, in grey too', () => {
    const lightness = heat.map((shade) => luminance(linear(shade)))
    const away = name === 'light' ? -1 : 1
    for (let i = 1; i < heat.length; i++) expect(away * (lightness[i] - lightness[i - 1])).toBeGreaterThan(0)
  })
})

test('eight series have eight symbols and eight dashes', () => {
  const styles = Array.from({ length: 8 }, (_, i) => seriesStyle(i))
  for (const field of ['color', 'symbol', 'dash'] as const) {
    expect(new Set(styles.map((style) => style[field])).size).toBe(8)
  }
})

test('rules give the dark scheme to those who ask for it, and never to print', () => {
  const rules = schemeRules('.x')
  const [light, dark, print] = [
    rules.indexOf('.x{'),
    rules.indexOf('prefers-color-scheme:dark'),
    rules.indexOf('print'),
  ]
  expect(light).toBe(0)
  expect(dark).toBeGreaterThan(light)
  expect(print).toBeGreaterThan(dark)
  expect(rules.slice(print)).toContain(schemes.light.paper)
})
