import { describe, expect, test } from 'vitest'
import { OptionError } from '../../src/common/errors.js'
import { type LayerError, layerBars } from '../../src/report/layer-bars.js'
import { layerBlocks, layerKinds, layerPlace } from '../../src/report/layer-place.js'
import { sensitivityMap } from '../../src/report/sensitivity-map.js'
import { countMarks, decoded, hostileName, type ParsedElement, parsePicture, textsOf } from './support.js'

const kinds = ['self_attn.q_proj', 'self_attn.k_proj', 'mlp.up_proj', 'mlp.down_proj']

/** A model of `blocks` blocks whose errors are all different. */
const modelOf = (blocks: number): LayerError[] =>
  Array.from({ length: blocks }, (_, block) =>
    kinds.map((kind, i) => ({
      name: `model.layers.${block}.${kind}`,
      relativeError: 0.01 * (1 + block + i / 10),
    })),
  ).flat()

const attribute = (element: ParsedElement, name: string) => Number(element.getAttribute(name))
const bars = (picture: ParsedElement) => [...picture.querySelectorAll('.gptvq-layers rect')]

describe('the place of a layer', () => {
  test('is read from its name', () => {
    expect(layerPlace('model.layers.12.mlp.up_proj.weight')).toEqual({ block: 12, kind: 'mlp.up_proj' })
    expect(layerPlace('h.3.attn.c_attn')).toEqual({ block: 3, kind: 'attn.c_attn' })
    expect(layerPlace('lm_head')).toEqual({ block: null, kind: 'lm_head' })
  })

  test('orders blocks by number, those outside last', () => {
    expect(layerBlocks(['lm_head', 'a.10.x', 'a.9.x', 'a.10.y'])).toEqual([9, 10, null])
  })

  test('names kinds by their last part and marks them by its first letter, or by numbers where two share it', () => {
    expect(layerKinds(['m.0.attn.q_proj', 'm.0.mlp.up_proj'])).toMatchObject({
      names: ['q', 'up'],
      marks: ['q', 'u'],
    })
    expect(layerKinds(['m.0.a.out', 'm.0.b.out'])).toMatchObject({
      names: ['a.out', 'b.out'],
      marks: ['a', 'b'],
    })
    expect(layerKinds(['m.0.gate', 'm.0.glue'])).toMatchObject({ names: ['gate', 'glue'], marks: ['1', '2'] })
  })
})

describe('layer bars', () => {
  test.each([340, 720])('has one bar per layer at %i pixels, each with its name and value', (width) => {
    const model = modelOf(32)
    const picture = parsePicture(layerBars(model, { width }))
    expect(bars(picture).length).toBe(model.length)
    const titles = bars(picture).map((bar) => bar.querySelector('title')?.textContent)
    expect(new Set(titles).size).toBe(model.length)
    expect(titles[0]).toBe('model.layers.0.self_attn.q_proj: 20 dB')
    for (const bar of bars(picture)) {
      expect(attribute(bar, 'x')).toBeGreaterThan(0)
      expect(attribute(bar, 'x') + attribute(bar, 'width')).toBeLessThanOrEqual(width)
    }
  })

  test('bars are as high as what they stand for, of the same scale in every row', () => {
    const model = modelOf(20)
    const picture = parsePicture(layerBars(model, { width: 340, measure: 'error' }))
    const perUnit = bars(picture).map(
      (bar, i) => attribute(bar, 'height') / (model[i].relativeError ?? Number.NaN),
    )
    expect(Math.max(...perUnit) / Math.min(...perUnit)).toBeLessThan(1.03)
  })

  test('colours and marks follow the kind', () => {
    const picture = parsePicture(layerBars(modelOf(3), { width: 720 }))
    const colors = bars(picture).map((bar) => bar.getAttribute('fill'))
    expect(new Set(colors).size).toBe(kinds.length)
    expect(colors.slice(0, 4)).toEqual(colors.slice(4, 8))
    const texts = textsOf(picture)
    for (const mark of ['q', 'k', 'u', 'd'])
      expect(texts.filter((text) => text === mark).length).toBeGreaterThanOrEqual(3)
    for (const block of [0, 1, 2]) expect(texts).toContain(`block ${block}`)
  })

  test('tells layers that were not measured, are exact, or worse than nothing', () => {
    const layers = [
      { name: 'm.0.a', relativeError: null },
      { name: 'm.0.b', relativeError: 0 },
      { name: 'm.0.c', relativeError: 0.1 },
      { name: 'm.0.d', relativeError: 1.5 },
    ]
    const picture = parsePicture(layerBars(layers))
    expect(textsOf(picture)).toEqual(expect.arrayContaining(['?', '∞']))
    const [unmeasured, exact, measured, worse] = bars(picture)
    expect(attribute(unmeasured, 'height')).toBe(0)
    expect(attribute(exact, 'height')).toBe(attribute(measured, 'height'))
    expect(attribute(worse, 'y')).toBeGreaterThan(attribute(measured, 'y'))
  })

  test('can be drawn where nothing was measured', () => {
    expect(bars(parsePicture(layerBars([{ name: 'x', relativeError: null }]))).length).toBe(1)
  })

  test('refuses no layers, a name twice, and errors that are none', () => {
    const row = { name: 'm.0.a', relativeError: 0.1 }
    expect(() => layerBars([])).toThrow(OptionError)
    expect(() => layerBars([row, row])).toThrow(/^layers: m\.0\.a comes twice/)
    expect(() => layerBars([{ ...row, relativeError: Number.NaN }])).toThrow(
      /relativeError of m\.0\.a is NaN/,
    )
    expect(() => layerBars([{ ...row, relativeError: -1 }])).toThrow(/not below 0/)
  })
})

describe('sensitivity map', () => {
  const values = modelOf(3).map(({ name, relativeError }) => ({ name, value: relativeError }))
  const step = (cell: ParsedElement) => Number(/heat-(\d)/.exec(cell.getAttribute('fill') ?? '')?.[1])

  test.each([340, 560])('has one cell per layer at %i pixels, with its value', (width) => {
    const picture = parsePicture(sensitivityMap(values, { width }))
    expect(countMarks(picture, 'layers', 'rect')).toBe(12)
    expect(textsOf(picture)).toEqual(expect.arrayContaining(['block 0', 'block 2', 'q', 'up']))
  })

  test.each(['linear', 'log'] as const)(
    'shades rise with the values, the whole %s scale is used',
    (scale) => {
      const cells = [
        ...parsePicture(sensitivityMap(values, { scale })).querySelectorAll('.gptvq-layers rect'),
      ]
      const steps = cells.map(step)
      for (const [i, { value }] of values.entries()) {
        for (const [j, other] of values.entries()) {
          if ((value ?? 0) > (other.value ?? 0)) expect(steps[i]).toBeGreaterThanOrEqual(steps[j])
        }
      }
      expect([Math.min(...steps), Math.max(...steps)]).toEqual([1, 7])
    },
  )

  test('leaves cells empty that were not measured, and draws equal values alike', () => {
    const [first, ...rest] = values
    const picture = parsePicture(
      sensitivityMap([{ ...first, value: null }, ...rest.map(({ name }) => ({ name, value: 5 }))]),
    )
    const fills = [...picture.querySelectorAll('.gptvq-layers rect')].map((cell) => cell.getAttribute('fill'))
    expect(fills[0]).toBe('none')
    expect(new Set(fills.slice(1)).size).toBe(1)
    expect(textsOf(picture)).toContain('–')
  })

  test('names the worst layer to those who do not see it', () => {
    const label = parsePicture(sensitivityMap(values)).getAttribute('aria-label') ?? ''
    expect(decoded(label)).toContain('greatest for model.layers.2.mlp.down_proj, 0.033')
  })

  test('refuses two layers in one place and values that have no logarithm', () => {
    const twice = [
      { name: 'a.0.x', value: 1 },
      { name: 'b.0.x', value: 1 },
    ]
    expect(() => sensitivityMap(twice)).toThrow(/^layers: a\.0\.x and b\.0\.x/)
    expect(() => sensitivityMap([{ name: 'a.0.x', value: 0 }], { scale: 'log' })).toThrow(/^scale: /)
    expect(() => sensitivityMap([])).toThrow(OptionError)
  })
})

test('names are shown as they are, whatever they hold', () => {
  const layers = [{ name: hostileName, relativeError: 0.1 }]
  const bar = parsePicture(layerBars(layers))
  expect(bar.querySelector('script')).toBeNull()
  expect(bars(bar)[0].textContent).toContain(`</title><script>alert("x")</script>&amp;'`)
  const map = parsePicture(sensitivityMap([{ name: hostileName, value: 0.1 }]))
  expect(map.querySelector('script')).toBeNull()
})
