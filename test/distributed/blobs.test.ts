import { mkdir, mkdtemp, readdir, rm, utimes } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { BLOB_SECONDS, sweepFolder } from '../../src/distributed/blobs.js'

it('of a shared folder only what runs left is removed, once nobody has kept it alive for long', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'gptvq-sweep-'))
  const old = Date.now() / 1000 - BLOB_SECONDS
  for (const [name, time] of [
    ['gptvq-run-dead', old - 1],
    ['gptvq-run-alive', old + 60],
    ['of-others', old - 1],
  ] as const) {
    await mkdir(join(folder, name, 'inner'), { recursive: true })
    await utimes(join(folder, name), time, time)
  }
  await sweepFolder(folder)
  expect((await readdir(folder)).sort()).toEqual(['gptvq-run-alive', 'of-others'])
  await rm(folder, { recursive: true })
})
