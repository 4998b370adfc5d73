import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { AbortedError, OptionError, UnsupportedError } from '../../src/common/errors.js'
import { type Coordinator, openCoordinator } from '../../src/distributed/coordinator.js'
import { type Arithmetic, fingerprint } from '../../src/distributed/fingerprint.js'
import { queueName } from '../../src/distributed/protocol.js'
import { startWorker } from '../../src/distributed/worker.js'
import { bestBuild } from '../../src/kernels/wasm/runtime/runtime.js'
import {
  type LayerResult,
  type LayerWork,
  quantizeHere,
} from '../../src/pipeline/quantize/layers/layer-work.js'
import { teamRunner } from '../../src/pipeline/quantize/layers/team-runner.js'
import { contentOf } from '../support/layer-content.js'
import { hasRedis, type RedisServer, startRedis } from '../support/redis-server.js'
import { highLayer, layerWork, shortTiming, type WorkerProcess, workerProcess } from './support.js'

const arithmetic: Arithmetic = { build: bestBuild(), products: 'wasm' }

const withoutTime = ({ seconds: _, ...result }: LayerResult) => result

let server: RedisServer
let folder: string
const open: { close?(): Promise<void>; kill?(): Promise<void> }[] = []

async function coordinator(options: { shared?: string; timing?: Partial<typeof shortTiming> } = {}) {
  const timing = { ...shortTiming, ...options.timing }
  const opened = await openCoordinator({ redis: server.url, arithmetic, ...options, timing })
  open.push(opened)
  return opened
}
async function worker(shared?: string): Promise<WorkerProcess> {
  const started = await workerProcess({
    redis: server.url,
    timing: shortTiming,
    threads: 1,
    ...(shared && { shared }),
  })
  open.push(started)
  return started
}
const run = (team: Coordinator, work: LayerWork) => team.run('layer', work, {}) as Promise<LayerResult>

describe.skipIf(!hasRedis())('jobs', { timeout: 120_000 }, () => {
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gptvq-jobs-'))
    server = await startRedis()
  })
  afterEach(async () => {
    for (const { close, kill } of open.splice(0)) await (close ?? kill)!()
  })
  afterAll(async () => {
    await server.close()
    await rm(folder, { recursive: true, force: true })
  })

  it('of a worker that is killed are done by another, to the same bytes', async () => {
    const work = layerWork('first', 256, 1)
    const [team, first] = [await coordinator(), await worker()]
    const result = run(team, work)
    await first.says('first begun')
    await first.kill()
    await worker()
    expect(withoutTime(await result)).toEqual(withoutTime(await quantizeHere(work, {})))
  })

  it('of the rows of a large layer go to all workers; one is killed, and the layer is that of one machine', async () => {
    const high = highLayer()
    const [team, first, second] = [await coordinator(), await worker(), await worker()]
    const result = teamRunner(team, true)(high, {})
    await Promise.all([first, second].map((one) => one.says('high, rows')))
    await first.kill()
    expect(contentOf(await result)).toEqual(contentOf(await quantizeHere(high, {})))
  })

  it('outlive a Redis that is killed and comes back empty', async () => {
    const work = layerWork('again', 256, 3)
    const [team, one] = [await coordinator(), await worker()]
    const result = run(team, work)
    await one.says('again begun')
    await server.stop()
    await server.start()
    expect(withoutTime(await result)).toEqual(withoutTime(await quantizeHere(work, {})))
  })

  it('whose tensors were damaged are sent again', async () => {
    const work = layerWork('damaged', 64, 5)
    const team = await coordinator()
    const result = run(team, work)
    const redis = new Redis(server.url)
    await expect
      .poll(() => redis.keys('gptvq:blob:*').then((keys) => keys.length), { timeout: 10_000 })
      .toBe(2)
    await expect
      .poll(() => redis.keys('gptvq:*:wait').then((keys) => keys.length), { timeout: 10_000 })
      .toBe(1)
    for (const key of await redis.keys('gptvq:blob:*')) await redis.setrange(key, 100, 'damage')
    redis.disconnect()
    await worker()
    expect(withoutTime(await result)).toEqual(withoutTime(await quantizeHere(work, {})))
  })

  it.each([false, true])(
    'with equal results are each done once, though one is read and removed before the other (shared folder: %s)',
    async (isShared) => {
      const shared = isShared ? await mkdtemp(join(folder, 'shared-')) : undefined
      const team = await coordinator({ ...(shared && { shared }) })
      const taking = await worker(shared)
      const work = layerWork('alike', 64, 7)
      let isDue = false
      const late = team.run(
        'layer',
        { ...work, name: 'late' },
        { isDue: () => isDue },
      ) as Promise<LayerResult>
      await taking.says('late done')
      const soon = await run(team, { ...work, name: 'soon' })
      isDue = true
      expect(contentOf(await late)).toEqual(contentOf(soon))
      expect(taking.jobs()).toEqual(['late begun', 'late done', 'soon begun', 'soon done'])
    },
  )

  it('whose tensors no worker can read fail with the reason, after a few tries', async () => {
    const [here, elsewhere] = [
      await mkdtemp(join(folder, 'here-')),
      await mkdtemp(join(folder, 'elsewhere-')),
    ]
    const team = await coordinator({ shared: here })
    await worker(elsewhere)
    const failed = run(team, layerWork('unseen', 64, 7))
    await expect(failed).rejects.toThrow(UnsupportedError)
    await expect(failed).rejects.toThrow(/failed 5 times.*elsewhere.*ENOENT/)
    const left = async () => {
      const runs = await readdir(here)
      return (await Promise.all(runs.map((name) => readdir(join(here, name))))).flat()
    }
    await expect.poll(left).toEqual([])
  })

  it('that no worker takes end with an error, which says who is there and computes otherwise', async () => {
    const team = await coordinator({ timing: { patience: 1500 } })
    const redis = new Redis(server.url)
    const other = { host: 'oldbox', pid: 1, version: '0.0.9', node: '18.1.0', queues: ['other'], busy: false }
    await redis.set('gptvq:worker:other', JSON.stringify(other), 'EX', 60)
    const failed = run(team, layerWork('alone', 64, 9))
    await expect(failed).rejects.toThrow(/no worker for .*gptvq worker.*oldbox \(0\.0\.9, Node 18\.1\.0/)
    await redis.unlink('gptvq:worker:other')
    redis.disconnect()
  })

  it.each([
    null,
    'nonsense',
    { status: 'done', output: '{', blobs: [] },
    { status: 'done', output: '{"$gptvq":"Nothing","base64":""}', blobs: [] },
    { status: 'done', output: '1', blobs: ['../../etc/passwd'] },
  ])('with a result that cannot be read, %j, fail after a few tries and hold up no others', async (bad) => {
    const { Worker } = await import('bullmq')
    const connection = new Redis(server.url, { maxRetriesPerRequest: null })
    const queue = queueName(await fingerprint(arithmetic), 'redis')
    const answer = async ({ data }: { data: { input: string } }) =>
      data.input.includes('"bad"') ? bad : { status: 'done', output: '7', blobs: [] }
    const answering = new Worker(queue, answer, { connection, prefix: 'gptvq' })
    const team = await coordinator()
    const refused = team.run('layer', { name: 'bad' }, {})
    const good = team.run('layer', { name: 'good' }, {})
    await expect(refused).rejects.toThrow(/of bad failed 5 times.*its result cannot be read/)
    expect(await good).toBe(7)
    await answering.close()
    connection.disconnect()
  })

  it('of a coordinator that died are dropped, not done', async () => {
    const { Queue } = await import('bullmq')
    const connection = new Redis(server.url, { maxRetriesPerRequest: null })
    const queue = new Queue(queueName(await fingerprint(arithmetic), 'redis'), {
      connection,
      prefix: 'gptvq',
    })
    const job = await queue.add('layer', { run: 'dead', kind: 'layer', input: '{}' })
    const events: string[] = []
    const taking = await startWorker({ redis: server.url, onJob: ({ job }) => events.push(job) })
    await expect.poll(() => job.getState(), { timeout: 10_000 }).toBe('unknown')
    expect(events).toEqual([])
    await taking.close()
    await queue.close()
    connection.disconnect()
  })

  it('of runs that are gone are removed by the next, which leaves no key but those of others', async () => {
    const { Queue } = await import('bullmq')
    const redis = new Redis(server.url, { maxRetriesPerRequest: null })
    await redis.flushall()
    const own = queueName(await fingerprint(arithmetic), 'redis')
    const queues = [own, 'other'].map((name) => new Queue(name, { connection: redis, prefix: 'gptvq' }))
    await redis.set('gptvq:run:alive', '1', 'EX', 60)
    const data = (run: string) => ({ run, kind: 'layer', input: '{}' })
    for (const queue of queues) await queue.add('layer', data('dead'))
    const kept = await queues[1].add('layer', data('alive'))
    const team = await coordinator()
    expect(await Promise.all(queues.map((queue) => queue.getJobCounts('waiting')))).toEqual([
      { waiting: 0 },
      { waiting: 1 },
    ])
    const stop = new AbortController()
    const refused = team.run('layer', { name: 'unwanted' }, { signal: stop.signal })
    stop.abort()
    await expect(refused).rejects.toThrow(AbortedError)
    await team.close()
    const left = await redis.keys('gptvq:*')
    expect(left.filter((key) => !key.startsWith('gptvq:other:'))).toEqual(['gptvq:run:alive'])
    expect(await kept.getState()).toBe('waiting')
    for (const queue of queues) await queue.close()
    redis.disconnect()
  })

  it('larger than Redis is given are refused with what to do', async () => {
    const { redisBlobs } = await import('../../src/distributed/blobs.js')
    const redis = new Redis(server.url)
    const blobs = redisBlobs(redis, 'gptvq', 'small', 1000)
    const hash = await blobs.put(new Uint8Array(900))
    await expect(blobs.put(new Uint8Array(200).fill(1))).rejects.toThrow(/--shared/)
    await blobs.remove(hash)
    await blobs.put(new Uint8Array(200).fill(1))
    redis.disconnect()
  })
})

describe('a Redis that cannot be had', () => {
  it('is an error that names it without the password', async () => {
    const url = 'redis://:s3cret@127.0.0.1:1'
    const refused = startWorker({ redis: url })
    await expect(refused).rejects.toThrow(UnsupportedError)
    await expect(refused).rejects.toThrow(/cannot reach Redis at redis:\/\/127\.0\.0\.1:1: .*ECONNREFUSED/)
    await expect(refused).rejects.not.toThrow(/s3cret/)
  })

  it.each(['localhost:6379', 'http://localhost', 'x@y'])('%s is no URL of Redis', async (redis) => {
    await expect(startWorker({ redis })).rejects.toThrow(OptionError)
  })

  it.each(['redis://:s3%cret@127.0.0.1:1', 'redis://s3%cret:a@127.0.0.1:1'])(
    'a stray % in %s is refused by the name of the option, without the password',
    async (redis) => {
      const refused = startWorker({ redis })
      await expect(refused).rejects.toThrow(OptionError)
      await expect(refused).rejects.toThrow(/^redis: .*%25/)
      await expect(refused).rejects.not.toThrow(/cret/)
    },
  )

  it('a shared folder that is not there is refused', async () => {
    await expect(startWorker({ redis: 'redis://127.0.0.1:1', shared: '/nowhere' })).rejects.toThrow(
      /\/nowhere/,
    )
  })
})
