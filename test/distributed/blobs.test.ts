import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { expect, it, onTestFinished } from 'vitest'
import { BLOB_SECONDS, BlobError, folderBlobs, redisBlobs, sweepFolder } from '../../src/distributed/blobs.js'
import { hasRedis, startRedis } from '../support/redis-server.js'

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

it('names that lead out of the shared folder are refused: they come from Redis', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'gptvq-names-'))
  const [shared, kept] = [join(folder, 'shared'), join(folder, 'kept')]
  await mkdir(shared)
  await writeFile(kept, 'of others')
  const blobs = folderBlobs(shared, 'run')
  const name = await blobs.put(Uint8Array.of(1, 2), { owner: '7' })
  expect(await blobs.get(name)).toEqual(Buffer.of(1, 2))
  for (const path of ['../../kept', kept, '..', `${name}/../../../kept`]) {
    await expect(blobs.get(path)).rejects.toThrow(BlobError)
    await expect(blobs.remove(path)).rejects.toThrow(/is no name of a blob/)
    await expect(blobs.put(Uint8Array.of(3), { owner: path })).rejects.toThrow(/is no name of a blob/)
    expect(() => folderBlobs(shared, path)).toThrow(/is no name of a run/)
  }
  expect(await readFile(kept, 'utf8')).toBe('of others')
  expect(await readdir(folder)).toEqual(['kept', 'shared'])
  await rm(folder, { recursive: true })
})

it.skipIf(!hasRedis())('bytes in Redis count while they are there, however they come and go', async () => {
  const server = await startRedis()
  const redis = new Redis(server.url)
  onTestFinished(() => {
    redis.disconnect()
    return server.close()
  })
  const blobs = redisBlobs(redis, 'gptvq', 'run', 1000)
  const bytes = new Uint8Array(900)
  const name = await blobs.put(bytes)
  await Promise.all([blobs.remove(name), blobs.put(bytes), blobs.remove(name), blobs.put(bytes)])
  expect(await blobs.get(name)).toEqual(Buffer.from(bytes))
  await expect(blobs.put(new Uint8Array(200).fill(1))).rejects.toThrow(/at most/)
})
