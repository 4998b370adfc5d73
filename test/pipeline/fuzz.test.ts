import { join } from 'node:path'
import { expect, it } from 'vitest'
import { quantizeModel } from '../../src/model.js'
import { folderOfFile } from '../cli/support.js'
import { fuzzFolders } from '../support/fuzz.js'
import { tinyText, writeTinyModel } from '../support/tiny-model.js'

// scripts/fuzz.ts tries as many as one likes
it('hundreds of damaged folders end in success or in an error of the library, in every command', async () => {
  const work = await folderOfFile()
  const { folder: model } = await writeTinyModel(join(work, 'plain'))
  await quantizeModel({ model, output: join(work, 'rtn'), method: 'rtn', embeddingBits: 8 })
  await quantizeModel({
    ...{ model, output: join(work, 'vq'), calibration: { text: tinyText(300) }, sequences: 4 },
    ...{ refinementRounds: 0, kmeansIterations: 2, restarts: 1, columnOrder: 'activation' },
  })
  const folders = ['plain', 'rtn', 'vq'].map((name) => join(work, name))
  const findings = await fuzzFolders(folders, work, 1_000_000, 300)
  expect(findings.map(({ seed, command, error }) => `${seed} ${command}: ${error}`)).toEqual([])
}, 600_000)
