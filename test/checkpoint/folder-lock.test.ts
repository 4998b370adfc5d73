import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { nodeFileSystem } from '../../src/checkpoint/file-system.js'
import { claimUnfinished } from '../../src/checkpoint/output/unfinished-folder.js'
import { CheckpointError } from '../../src/common/errors.js'
import { errorOf, temporaryFolder } from './fixtures.js'

const claim = (output: string) => claimUnfinished(nodeFileSystem, output)

/** The lock of a process. */
const lockOf = (pid: number) => JSON.stringify({ pid, host: hostname(), id: 'a' })

/** More than any process has. */
const GONE = 2 ** 22 + 1

/** An output whose unfinished folder holds a lock. */
async function lockedOutput(text: string): Promise<{ output: string; lock: string }> {
  const folder = await temporaryFolder()
  await mkdir(join(folder, '.out.unfinished'))
  const lock = join(folder, '.out.unfinished', 'lock-1.json')
  await writeFile(lock, text)
  return { output: join(folder, 'out'), lock }
}

/** What the tests have started. */
const children: ChildProcess[] = []
afterAll(() => {
  for (const child of children) child.kill('SIGKILL')
})

describe('an unfinished folder', () => {
  it('that someone else has removed can be let go', async () => {
    for (const end of ['remove', 'release'] as const) {
      const claimed = await claim(join(await temporaryFolder(), 'out'))
      await rm(claimed.path, { recursive: true })
      await claimed[end]()
    }
  })

  it('is had by one of many runs that start at the same moment, and the others are told of it', async () => {
    for (let round = 0; round < 20; round++) {
      // every other time one that is gone has left its lock behind
      const { output } = await lockedOutput(lockOf(GONE))
      const place = round % 2 === 0 ? output : join(await temporaryFolder(), 'out')
      const claims = await Promise.allSettled(Array.from({ length: 20 }, () => claim(place)))
      const had = claims.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
      expect(had.length).toBe(1)
      for (const one of claims) {
        if (one.status === 'fulfilled') continue
        expect(one.reason).toBeInstanceOf(CheckpointError)
        expect(one.reason.message).toMatch(`${place}: the process ${process.pid} is writing it`)
      }
      expect((await readdir(had[0].path)).length).toBe(1)
      await had[0].release()
      await (await claim(place)).remove()
      expect(await readdir(join(place, '..'))).toEqual([])
    }
  })

  it('is had by one of two processes that start at the same moment', async () => {
    const script = fileURLToPath(new URL('./claim-in-turns.ts', import.meta.url))
    for (let i = 0; i < 2; i++) children.push(fork(script, [], { execArgv: ['--import', 'tsx'] }))
    await Promise.all(children.map((child) => once(child, 'message')))
    for (let round = 0; round < 100; round++) {
      const { output } = await lockedOutput(lockOf(GONE))
      const place = round % 2 === 0 ? output : join(await temporaryFolder(), 'out')
      const answers = children.map((child) => once(child, 'message'))
      for (const child of children) child.send({ output: place, at: Date.now() + 5 })
      const errors = (await Promise.all(answers)).map(([{ error }]) => error)
      expect(errors.filter((error) => error === null)).toHaveLength(1)
      expect(errors.find((error) => error !== null)).toMatch(/the process \d+ is writing it/)
    }
  }, 60_000)

  it('is held under every name of the folder it is in', async () => {
    const folder = await temporaryFolder()
    await mkdir(join(folder, 'real'))
    await symlink(join(folder, 'real'), join(folder, 'link'))
    const held = await claim(join(folder, 'real', 'out'))
    const error = await errorOf(claim(join(folder, 'link', 'out')))
    expect(error.message).toMatch(/is writing it/)
    await held.remove()
    await (await claim(join(folder, 'link', 'out'))).remove()
  })

  it('is not taken from a process that is just writing its lock', async () => {
    const { output, lock } = await lockedOutput('')
    const claiming = errorOf(claim(output))
    await new Promise((resolve) => setTimeout(resolve, 100))
    await writeFile(lock, lockOf(process.ppid))
    expect((await claiming).message).toMatch(`the process ${process.ppid} is writing it`)
    expect(await readdir(join(lock, '..'))).toEqual(['lock-1.json'])
  })

  it.runIf(process.platform === 'linux')(
    'is taken over from a process that was killed and that nobody has asked about since',
    async () => {
      // what sh started is now the child of sleep, which never asks
      const parent = spawn('sh', ['-c', 'sleep 0.2 & echo $!; exec sleep 60'])
      children.push(parent)
      const pid = Number(String((await once(parent.stdout, 'data'))[0]))
      await expect
        .poll(() => readFile(`/proc/${pid}/stat`, 'utf8'), { timeout: 10_000 })
        .toMatch(/\(sleep\) Z/)
      expect(process.kill(pid, 0)).toBe(true)
      const { output } = await lockedOutput(lockOf(pid))
      await (await claim(output)).remove()
    },
  )
})
