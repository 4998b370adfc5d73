import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { NumericError } from '../../src/common/errors.js'
import { randomGenerator } from '../../src/common/random.js'
import type { WorkerOptions } from '../../src/distributed/worker.js'
import { type QuantizeModelOptions, quantizeModel } from '../../src/model.js'
import { hasRedis, type RedisServer, startRedis } from '../support/redis-server.js'
import { writeTinyModel } from '../support/tiny-model.js'
import { shortTiming, type WorkerProcess, workerProcess, writtenBytes } from './support.js'

const LENGTH = 64

/** So many batches of 2048 tokens, the last of them short. */
function calibrationOf(batches: number) {
  const random = randomGenerator(7)
  const count = batches * (2048 / LENGTH) - 3
  const one = () => Int32Array.from({ length: LENGTH }, () => Math.floor(256 * random()))
  return { sequences: Array.from({ length: count }, one) }
}

let folder: string
let model: string
let server: RedisServer

describe.skipIf(!hasRedis())('calibration over machines', { timeout: 600_000 }, () => {
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gptvq-calibration-'))
    model = (await writeTinyModel(join(folder, 'model'))).folder
    server = await startRedis()
  })
  afterAll(async () => {
    await server.close()
    await rm(folder, { recursive: true, force: true })
  })

  const quick = { restarts: 1, refinementRounds: 1, engine: 'wasm', threads: 1 } as const
  let runs = 0

  async function quantized(options: Partial<QuantizeModelOptions>): Promise<string[]> {
    const output = join(folder, String(runs++))
    await quantizeModel({ model, output, ...quick, ...options })
    return (await writtenBytes(output)).map((bytes) => bytes.toString('base64'))
  }

  /** Workers in processes of their own, as many as are added. */
  async function withWorkers(
    use: (add: (options?: Partial<WorkerOptions>) => Promise<WorkerProcess>) => Promise<void>,
  ): Promise<void> {
    const workers: WorkerProcess[] = []
    try {
      await use(async (options) => {
        const own = { redis: server.url, timing: shortTiming, threads: 1, ...options }
        workers.push(await workerProcess(own))
        return workers.at(-1)!
      })
    } finally {
      for (const worker of workers) await worker.kill()
    }
  }

  it('the bytes of one machine with 1, 2 and 4 workers, which all take chunks', async () => {
    const calibration = calibrationOf(7)
    const alone = await quantized({ calibration })
    await withWorkers(async (add) => {
      const workers: WorkerProcess[] = []
      for (const count of [1, 2, 4]) {
        while (workers.length < count) workers.push(await add())
        const steps: string[] = []
        const onProgress = ({ step }: { step: string }) => steps.push(step)
        expect(await quantized({ calibration, redis: server.url, onProgress })).toEqual(alone)
        expect(steps.join('\n')).toMatch(/collecting Hessians \(\d workers?, \d busy, \d+ jobs?\)/)
        expect(steps.join('\n')).toMatch(/running the quantized layers \(\d workers?, \d busy, \d+ jobs?\)/)
      }
      for (const worker of workers) await worker.says('inputs, sequences')
    })
  })

  it('the same bytes where a worker is killed over a chunk, and tensors go through a shared folder', async () => {
    const calibration = calibrationOf(5)
    const options = { calibration, layerOrder: 'block' } as const
    const alone = await quantized(options)
    const shared = join(folder, 'shared')
    await mkdir(shared)
    await withWorkers(async (add) => {
      const first = await add({ shared })
      const away = quantized({ ...options, redis: server.url, shared })
      await first.says(
        'self_attn.q_proj, self_attn.k_proj, self_attn.v_proj: inputs, sequences 1 to 64 begun',
      )
      await first.kill()
      await add({ shared })
      expect(await away).toEqual(alone)
    })
    expect(await readdir(shared)).toEqual([])
  })

  it('activations that are not finite are the error of one machine, and leave nothing in Redis', async () => {
    const broken = await writeTinyModel(join(folder, 'broken'), {
      tensors: (tensors) => tensors.get('model.layers.0.input_layernorm.weight')!.values.fill(3e38),
    })
    const options = { model: broken.folder, calibration: calibrationOf(5) }
    const errorOf = (more: Partial<QuantizeModelOptions>) =>
      quantized({ ...options, ...more }).catch((error: Error) => error) as Promise<Error>
    const alone = await errorOf({})
    expect(alone).toBeInstanceOf(NumericError)
    await withWorkers(async (add) => {
      await add()
      expect((await errorOf({ redis: server.url })).message).toBe(alone.message)
    })
    const redis = new Redis(server.url)
    const left = await redis.keys('gptvq:blob:*')
    redis.disconnect()
    expect(left).toEqual([])
  })
})
