import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AbortedError } from '../../src/common/errors.js'
import type { WorkerEvent } from '../../src/distributed/jobs.js'
import { type RunningWorker, startWorker, type WorkerOptions } from '../../src/distributed/worker.js'
import { type QuantizeModelOptions, quantizeModel } from '../../src/model.js'
import { openTeam } from '../../src/pipeline/quantize/layers/layer-team.js'
import { quantizeHere } from '../../src/pipeline/quantize/layers/layer-work.js'
import { contentOf } from '../support/layer-content.js'
import { hasRedis, type RedisServer, startRedis } from '../support/redis-server.js'
import { writeTinyModel } from '../support/tiny-model.js'
import { highLayer, shortTiming, writtenBytes } from './support.js'

const text = { text: 'the quick brown fox jumps over the lazy dog, and once more. '.repeat(20) }

let folder: string
let model: string
let server: RedisServer

describe.skipIf(!hasRedis())('quantizing over machines', { timeout: 120_000 }, () => {
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gptvq-machines-'))
    model = (await writeTinyModel(join(folder, 'model'))).folder
    server = await startRedis('s3cret')
  })
  afterAll(async () => {
    await server.close()
    await rm(folder, { recursive: true, force: true })
  })

  const shared = () =>
    ({ model, calibration: text, sequences: 4, sequenceLength: 32, engine: 'wasm' }) as const

  async function quantized(name: string, options: Partial<QuantizeModelOptions>): Promise<Buffer[]> {
    const output = join(folder, name)
    await quantizeModel({ ...shared(), output, ...options })
    return writtenBytes(output)
  }

  async function withWorker<T>(options: Partial<WorkerOptions>, use: (worker: RunningWorker) => Promise<T>) {
    const worker = await startWorker({ redis: server.url, timing: shortTiming, ...options })
    try {
      return await use(worker)
    } finally {
      await worker.close()
    }
  }

  it.each([
    {},
    { layerOrder: 'block', driftCorrection: 0 },
    { trellisBits: 0, groupSize: 256, columnsPerGroup: 16 },
    { method: 'gptq' },
    { method: 'rtn' },
  ] as const)('gives the bytes of one machine: %j', async (options) => {
    const calibrated =
      'method' in options && options.method === 'rtn'
        ? { calibration: undefined, sequences: undefined, sequenceLength: undefined }
        : {}
    const own = { ...options, ...calibrated } as Partial<QuantizeModelOptions>
    const name = JSON.stringify(options).replace(/\W+/g, '-')
    const alone = await quantized(`alone-${name}`, own)
    const steps: string[] = []
    const away = await withWorker({}, () =>
      quantized(`away-${name}`, { ...own, redis: server.url, onProgress: ({ step }) => steps.push(step) }),
    )
    expect(away.map((bytes, i) => bytes.equals(alone[i]))).toEqual([true, true])
    expect(steps.join('\n')).toMatch(/quantizing self_attn\.q_proj \(1 worker, [01] busy, \d jobs?\)/)
    expect(steps.join('\n')).not.toContain('s3cret')
  })

  it('has the rows of a large layer quantized apart', async () => {
    const events: string[] = []
    const work = highLayer()
    const onJob = ({ job, state }: WorkerEvent) => events.push(`${job} ${state}`)
    const result = await withWorker({ onJob }, async () => {
      const team = await openTeam({ redis: server.url }, 'wasm', null)
      try {
        return await team!.runLayer(work, {})
      } finally {
        await team!.close()
      }
    })
    expect(contentOf(result)).toEqual(contentOf(await quantizeHere(work, {})))
    const parts = ['rows 1 to 34000', 'rows 34001 to 66000']
    // each twice: for the drift, then to be quantized
    const done = [...parts, ...parts].map((part) => `high, ${part} done`)
    expect(events.filter((event) => event.endsWith('done'))).toEqual(done)
  })

  it('sends tensors through a shared folder, and leaves nothing there', async () => {
    const place = join(folder, 'shared')
    await mkdir(place)
    const alone = await quantized('alone-shared', {})
    const away = await withWorker({ shared: place }, () =>
      quantized('away-shared', { redis: server.url, shared: place }),
    )
    expect(away.map((bytes, i) => bytes.equals(alone[i]))).toEqual([true, true])
    expect(await readdir(place)).toEqual([])
  })

  it('a layer that cannot be quantized is the same error as on one machine', async () => {
    const broken = await writeTinyModel(join(folder, 'broken'), {
      tensors: (tensors) => tensors.get('model.layers.0.self_attn.v_proj.weight')!.values.fill(Number.NaN),
    })
    const errorOf = (options: Partial<QuantizeModelOptions>) =>
      quantizeModel({ ...shared(), model: broken.folder, ...options }).catch(
        (error: Error) => error,
      ) as Promise<Error>
    const alone = await errorOf({})
    const away = await withWorker({}, () => errorOf({ redis: server.url }))
    expect([away.name, away.message]).toEqual([alone.name, alone.message])
  })

  it('stops when it is told to, and cleans the queue', async () => {
    const stop = new AbortController()
    const onProgress = ({ step }: { step: string }) => step.includes('waiting for a worker') && stop.abort()
    await expect(
      quantizeModel({ ...shared(), redis: server.url, onProgress, signal: stop.signal }),
    ).rejects.toThrow(AbortedError)
    const { Redis } = await import('ioredis')
    const redis = new Redis(server.url)
    const keys = await redis.keys('gptvq:*')
    redis.disconnect()
    // of workers that were there before; it expires
    expect(keys.filter((key) => !key.endsWith(':stalled-check'))).toEqual([])
  })
})
