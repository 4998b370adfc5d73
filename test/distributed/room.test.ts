import { expect, it } from 'vitest'
import { openTeam } from '../../src/pipeline/quantize/layers/layer-team.js'
import { resolveMethod } from '../../src/pipeline/quantize/quantize-options.js'

const redis = 'redis://127.0.0.1:1'
const unreachable = /cannot reach Redis/

/** The layers of a block of Llama-2-7B, as they are planned by a method. */
function planned(settings: ReturnType<typeof resolveMethod>, shapes: readonly [string, number, number][]) {
  const linears = shapes.map(([name, rows, cols]) => ({ kind: name, name, biasName: undefined, rows, cols }))
  return { settings, plan: { linears, settingsOf: () => settings } }
}

it('a model with a layer that has no room in Redis is refused before it begins, with what to do', async () => {
  const shapes: [string, number, number][] = [
    ['up_proj', 11008, 4096],
    ['down_proj', 4096, 11008],
  ]
  const [up, down] = shapes
  const gptvq = resolveMethod('gptvq', { bits: 2 })
  const open = (...[settings, own]: Parameters<typeof planned>) =>
    openTeam({ redis }, 'wasm', null, planned(settings, own))
  await expect(open(gptvq, [up, down])).rejects.toThrow(/^down_proj: .* 1\.63 GB.* 1\.07 GB.*--shared DIR/)
  await expect(open(gptvq, [up])).rejects.toThrow(unreachable)
  // one Hessian has room, without the drift of two halves of the text
  await expect(open(resolveMethod('gptvq', { bits: 2, driftCorrection: 0 }), [down])).rejects.toThrow(
    unreachable,
  )
  await expect(open(resolveMethod('rtn', { bits: 4 }), [down])).rejects.toThrow(unreachable)
  const shared = openTeam({ redis, shared: '/nowhere' }, 'wasm', null, planned(gptvq, [down]))
  await expect(shared).rejects.toThrow(/\/nowhere/)
})
