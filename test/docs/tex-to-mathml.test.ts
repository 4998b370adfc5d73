import { expect, it } from 'vitest'
import { texToMathml } from '../../scripts/tex-to-mathml.mjs'

const inline = (content: string) => `<math><mrow>${content}</mrow></math>`

it('letters, numbers and signs become the elements that browsers set them by', () => {
  expect(texToMathml('H = 0.5 - x')).toBe(inline('<mi>H</mi><mo>=</mo><mn>0.5</mn><mo>−</mo><mi>x</mi>'))
  expect(texToMathml('\\lambda < 1')).toBe(inline('<mi>λ</mi><mo>&lt;</mo><mn>1</mn>'))
})

it('commands for letters, operators, brackets and words become their signs', () => {
  expect(texToMathml('\\alpha \\in \\{ \\log \\}')).toBe(
    inline('<mi>α</mi><mo>∈</mo><mo stretchy="false">{</mo><mi>log</mi><mo stretchy="false">}</mo>'),
  )
})

it('what stands below and above a symbol goes to its place, in either order', () => {
  const expected = inline('<msubsup><mi>U</mi><mrow><mi>i</mi><mi>i</mi></mrow><mn>2</mn></msubsup>')
  expect(texToMathml('U_{ii}^2')).toBe(expected)
  expect(texToMathml('U^2_{ii}')).toBe(expected)
})

it('fractions take two arguments, text keeps its blanks', () => {
  expect(texToMathml('\\frac{2}{\\text{all tokens}}')).toBe(
    inline('<mfrac><mrow><mn>2</mn></mrow><mrow><mtext>all tokens</mtext></mrow></mfrac>'),
  )
})

it('the index of a sum stands below it where there is room', () => {
  const index = '<mo>∑</mo><mi>i</mi>'
  expect(texToMathml('\\sum_i')).toBe(inline(`<msub>${index}</msub>`))
  expect(texToMathml('\\sum_i', true)).toContain(`<munder>${index}</munder>`)
})

it.each([
  ['\\unknown', 'unknown'],
  ['{x', 'no closing }'],
  ['x_', 'nothing where a symbol must be'],
  ['x_1_2', 'two _'],
  ['\\frac{1}', 'nothing where a symbol must be'],
  ['\\text x', 'no {'],
  ['x & y', 'unexpected &'],
])('%s is refused rather than shown wrong', (tex, reason) => {
  expect(() => texToMathml(tex)).toThrow(reason)
})
