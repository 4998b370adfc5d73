import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { filesOf, writeFourBlocks } from '../pipeline/resume/models.js'
import { tinyText } from '../support/tiny-model.js'
import { cli, folderOfFile, resultOf, startCli } from './support.js'

let folder: string
let args: (out: string) => string[]

beforeAll(async () => {
  folder = await folderOfFile()
  const model = join(folder, 'model')
  const text = join(folder, 'calibration.txt')
  await writeFourBlocks(model)
  await writeFile(text, tinyText(2600, 3))
  const flags = ['--sequence-length', '40', '--columns-per-group', '16', '--refinement-rounds', '1']
  args = (out) => ['quantize', model, '--out', out, '--calibration', text, ...flags, '--progress', 'json']
})

test('Ctrl-C leaves what is done, says where, and --resume goes on with it', async () => {
  const [whole, out] = [join(folder, 'whole'), join(folder, 'stopped')]
  expect((await cli(args(whole))).code).toBe(0)
  const controller = new AbortController()
  const onStderr = (text: string) => {
    if (text.includes('block 3 of 4')) controller.abort('SIGINT')
  }
  const stopped = await cli(args(out), { signal: controller.signal, onStderr })
  expect(stopped.code).toBe(130)
  expect(stopped.stderr).toMatch(
    /gptvq: stopped; kept for --resume: 2 of 4 blocks done, \S+ kB in .*\.stopped\.unfinished\n$/,
  )
  const unasked = await cli(args(out))
  expect(unasked.code).toBe(1)
  expect(unasked.stderr).toMatch(
    /unfinished run .*2 of 4 blocks done.*Go on with it with --resume, or remove that folder/,
  )
  const other = await cli([...args(out), '--resume', '--group-size', '512'])
  expect(other.code).toBe(2)
  expect(other.stderr).toMatch(/^gptvq: --resume: .*was begun with .*--group-size not given \(now 512\)/m)
  expect((await cli([...args(out), '--resume'])).code).toBe(0)
  expect(await filesOf(out)).toEqual(await filesOf(whole))
  expect((await readdir(folder)).filter((name) => name.startsWith('.'))).toEqual([])
})

// a process that is killed can do nothing: what it left behind must be enough
describe.runIf(process.platform !== 'win32')('a process that is killed', () => {
  test('again and again is gone on with to the same files', async () => {
    const place = join(folder, 'killed')
    await mkdir(place)
    const [whole, out] = [join(place, 'whole'), join(place, 'out')]
    expect((await cli(args(whole))).code).toBe(0)
    for (const moment of [
      'block 1 of 4: collecting',
      'block 2 of 4: running',
      'block 3 of 4',
      'block 4 of 4',
      'writing',
    ]) {
      const child = startCli([...args(out), '--resume'])
      child.stderr?.on('data', (data) => {
        if (String(data).includes(moment)) child.kill('SIGKILL')
      })
      const { code, killedBy } = await resultOf(child)
      // behind the last block the process may have been quicker
      if (moment === 'writing' && code === 0) break
      expect({ moment, killedBy }).toEqual({ moment, killedBy: 'SIGKILL' })
      expect(await readdir(place)).not.toContain('out')
    }
    if (!(await readdir(place)).includes('out')) {
      expect((await cli([...args(out), '--resume'])).code).toBe(0)
    }
    expect(await filesOf(out)).toEqual(await filesOf(whole))
    expect((await readdir(place)).sort()).toEqual(['out', 'whole'])
  })
})
