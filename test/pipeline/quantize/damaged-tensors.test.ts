import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CheckpointError, NumericError } from '../../../src/common/errors.js'
import type { WeightSource } from '../../../src/model/decoder/weights.js'
import { checkModel } from '../../../src/pipeline/quantize/check-model.js'
import { planLayers } from '../../../src/pipeline/quantize/layers/layer-plan.js'
import { quantizeModel } from '../../../src/pipeline/quantize/quantize-model.js'
import { resolveMethod } from '../../../src/pipeline/quantize/quantize-options.js'
import { fixtureFolder, fixtureNames, openFixture, readTensors } from '../../model/families/fixture.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-damaged-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** A copy of a model, in whose header of tensors a text was replaced by one of the same length. */
async function withHeader(name: string, change: (header: string) => string): Promise<string> {
  const copy = await mkdtemp(join(folder, 'model-'))
  await cp(join(fixtureFolder, name), copy, { recursive: true })
  const file = join(copy, 'model.safetensors')
  const bytes = await readFile(file)
  const length = Number(bytes.readBigUInt64LE(0))
  const changed = Buffer.from(change(bytes.toString('utf8', 8, 8 + length)))
  expect(changed.length).toBe(length)
  changed.copy(bytes, 8)
  await writeFile(file, bytes)
  return copy
}

/** What files of older releases hold besides: nothing reads it. */
const unread = /\.(attention\.(bias|masked_bias)|rotary_emb\.inv_freq)$/

describe.each(fixtureNames)('%s', (name) => {
  it('is refused before the work begins when any of its tensors is missing or of another shape', async () => {
    const { config, source } = await openFixture(name)
    const tensors = await readTensors(join(fixtureFolder, name, 'model.safetensors'))
    const plan = planLayers(config, resolveMethod('rtn', {}), {})
    const check = (shape: WeightSource['shape']) => checkModel({ ...source, shape }, config, plan, undefined)
    expect(() => check(source.shape)).not.toThrow()
    const read = [...tensors.keys()].filter((tensor) => !unread.test(tensor))
    for (const tensor of read) {
      for (const found of [undefined, [], [0], [1, ...source.shape(tensor)!], [7, 7]]) {
        const damaged = () => check((asked) => (asked === tensor ? found : source.shape(asked)))
        expect(damaged, `${tensor} ${found}`).toThrow(CheckpointError)
        expect(damaged, `${tensor} ${found}`).toThrow(`${tensor}: `)
      }
    }
  })
})

it.each(['model.norm.weight', 'lm_head.weight', 'model.layers.1.block_sparse_moe.gate.weight'])(
  '%s of whole numbers is refused before the work begins, also by a method that does not read it',
  async (tensor) => {
    const model = await withHeader('mixtral-full', (header) => {
      const entry = header.indexOf(`"${tensor}"`)
      const at = header.indexOf('"BF16"', entry)
      return `${header.slice(0, at)}"I16" ${header.slice(at + 6)}`
    })
    const output = join(folder, 'output')
    const refused = quantizeModel({ model, output, method: 'rtn' })
    await expect(refused).rejects.toThrow(CheckpointError)
    await expect(quantizeModel({ model, output, method: 'rtn' })).rejects.toThrow(
      `tensor "${tensor}" is I16; expected floating-point numbers`,
    )
  },
)

it('a layer whose error outgrows float32 is named', async () => {
  const model = await withHeader('mixtral-full', (header) => header)
  const file = join(model, 'model.safetensors')
  const bytes = await readFile(file)
  const length = Number(bytes.readBigUInt64LE(0))
  const layer = 'model.layers.1.block_sparse_moe.experts.0.w1.weight'
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + length))
  const [start, end] = header[layer].data_offsets
  // 3e38 in BF16
  for (let at = start; at < end; at += 2) bytes.writeUInt16LE(0x7f61, 8 + length + at)
  await writeFile(file, bytes)
  const { tokens } = await openFixture('mixtral-full')
  const calibration = { sequences: [tokens.slice(0, 20), tokens.slice(20, 40)] }
  const sizes = { groupSize: 512, columnsPerGroup: 32, scaleBlockSize: 'none' } as const
  const refused = quantizeModel({ model, calibration, ...sizes, driftCorrection: 0, kmeansIterations: 1 })
  await expect(refused).rejects.toThrow(NumericError)
  await expect(quantizeModel({ model, calibration, ...sizes, kmeansIterations: 1 })).rejects.toThrow(
    /model\.layers\.1\.block_sparse_moe\.experts\.0\.w[123]/,
  )
})
