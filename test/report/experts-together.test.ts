import { expect, it } from 'vitest'
import { expertsTogether } from '../../src/report/page/experts-together.js'
import { errorFigures } from '../../src/report/page/report-figures.js'

const layer = (name: string, relativeError: number | null) => ({
  name: `model.layers.${name}`,
  relativeError,
})

it('draws the experts of a block as one of each kind, with the mean of the errors that were measured', () => {
  const layers = [
    layer('0.self_attn.o_proj', 0.5),
    layer('0.mlp.experts.0.up_proj', 0.25),
    layer('0.mlp.experts.0.down_proj', null),
    layer('0.mlp.experts.10.up_proj', 0.75),
    layer('0.mlp.experts.10.down_proj', null),
    layer('1.mlp.experts.0.up_proj', 0.125),
    layer('1.mlp.experts.3.up_proj', null),
    layer('1.mlp.shared_expert.up_proj', 0.1),
  ]
  expect(expertsTogether(layers)).toEqual([
    layer('0.self_attn.o_proj', 0.5),
    layer('0.mlp.experts.*.up_proj', 0.5),
    layer('0.mlp.experts.*.down_proj', null),
    layer('1.mlp.experts.*.up_proj', 0.125),
    layer('1.mlp.shared_expert.up_proj', 0.1),
  ])
})

it('leaves models without experts as they are', () => {
  const layers = [
    layer('0.mlp.up_proj', 0.5),
    layer('1.mlp.up_proj', null),
    { name: 'lm_head', relativeError: 0 },
  ]
  expect(expertsTogether(layers)).toEqual(layers)
})

it('keeps the pictures of a model with many experts small', () => {
  const layers = Array.from({ length: 3072 }, (_, i) =>
    layer(
      `${Math.floor(i / 192)}.mlp.experts.${Math.floor(i / 3) % 64}.${['gate', 'up', 'down'][i % 3]}_proj`,
      0.1,
    ),
  )
  const { markup } = errorFigures({ layers } as unknown as Parameters<typeof errorFigures>[0])
  expect(markup).toContain('Of the experts of a block the mean is drawn')
  // 16 blocks of 3 kinds, in 2 pictures of 2 widths
  expect(markup.split('<rect').length).toBeLessThan(16 * 3 * 4 * 2)
})
