import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exportGguf } from '../../src/export/export-gguf.js'
import { openModel } from '../../src/pipeline/folders/open-model.js'
import { fixtureNames, openFixture } from '../model/families/fixture.js'
import { copyFixture } from './fixture-folder.js'

/** Fixtures that llama.cpp has no way to say, and what of them. */
const refused: Readonly<Record<string, RegExp>> = {
  'llama-dynamic': /scaled dynamically/,
}

let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-gguf-'))
})

afterAll(() => rm(folder, { recursive: true, force: true }))

describe.each(fixtureNames.filter((name) => !(name in refused)))('%s', (name) => {
  it('written as F32 and read back is the same decoder with the same weights', async () => {
    const model = await copyFixture(name, join(folder, name))
    const output = join(folder, `${name}.gguf`)
    await exportGguf({ model, output, type: 'f32' })
    const fixture = await openFixture(name)
    const read = await openModel(output)
    try {
      const names = [...read.checkpoint.tensors.keys()]
      expect(names.length).toBeGreaterThan(0)
      for (const tensor of names) {
        expect(read.source.shape(tensor)).toEqual(fixture.source.shape(tensor))
        const wanted = await fixture.source.floats(tensor)
        const found = await read.source.floats(tensor)
        let worst = 0
        for (let i = 0; i < wanted.length; i++) worst = Math.max(worst, Math.abs(found[i] - wanted[i]))
        // norms stored as distances from 1 pass through their sum with 1
        expect({ tensor, worst: worst < 1.3e-7 }).toEqual({ tensor, worst: true })
      }
      const { bosTokenId: _, eosTokenIds: __, ...found } = read.config
      const { bosTokenId: ___, eosTokenIds: ____, ...wanted } = fixture.config
      expect(found).toEqual(wanted)
    } finally {
      await read.close()
    }
  })
})

describe.each(Object.entries(refused))('%s', (name, message) => {
  it('is refused, with what of it a GGUF file cannot say', async () => {
    const model = await copyFixture(name, join(folder, name))
    await expect(exportGguf({ model, output: join(folder, `${name}.gguf`) })).rejects.toThrow(message)
  })
})
