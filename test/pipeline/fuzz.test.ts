import { expect, it } from 'vitest'
import { folderOfFile } from '../cli/support.js'
import { fuzzedFolders, fuzzFolders } from '../support/fuzz.js'

// scripts/fuzz.ts tries as many as one likes
it('hundreds of damaged folders end in success or in an error of the library, in every command', async () => {
  const work = await folderOfFile()
  const folders = await fuzzedFolders(work)
  const findings = await fuzzFolders(folders, work, 1_000_000, 300)
  expect(findings.map(({ seed, command, error }) => `${seed} ${command}: ${error}`)).toEqual([])
}, 600_000)
