import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { UnsupportedError } from '../../src/common/errors.js'
import { openCoordinator } from '../../src/distributed/coordinator.js'
import type { Timing } from '../../src/distributed/protocol.js'
import { bestBuild } from '../../src/kernels/wasm/runtime/runtime.js'
import { type LayerResult, quantizeHere } from '../../src/pipeline/quantize/layers/layer-work.js'
import { contentOf } from '../support/layer-content.js'
import { hasRedis, type RedisServer, startRedis } from '../support/redis-server.js'
import { layerWork, shortTiming, type WorkerProcess, workerProcess } from './support.js'

/** A lock that lasts for less than a step. */
const shortLock: Timing = { ...shortTiming, lock: 400, stalled: 100 }
const STEP = 1500

let server: RedisServer
const open: { close?(): Promise<void>; kill?(): Promise<void> }[] = []

async function coordinator(timing: Timing = shortTiming) {
  const arithmetic = { build: bestBuild(), products: 'wasm' } as const
  const opened = await openCoordinator({ redis: server.url, arithmetic, timing })
  open.push(opened)
  return opened
}

async function worker(timing: Timing = shortTiming, step = 0): Promise<WorkerProcess> {
  const started = await workerProcess({ redis: server.url, timing, threads: 1 }, step)
  open.push(started)
  return started
}

describe.skipIf(!hasRedis())('a job', { timeout: 120_000 }, () => {
  beforeAll(async () => {
    server = await startRedis()
  })
  afterEach(async () => {
    for (const { close, kill } of open.splice(0)) await (close ?? kill)!()
  })
  afterAll(() => server.close())

  it('with a step that takes longer than its lock is done once', async () => {
    const work = layerWork('long', 64, 1)
    const [team, ...both] = [
      await coordinator(),
      await worker(shortLock, STEP),
      await worker(shortLock, STEP),
    ]
    const result = (await team.run('layer', work, {})) as LayerResult
    expect(contentOf(result)).toEqual(contentOf(await quantizeHere(work, {})))
    expect(both.flatMap((one) => one.jobs())).toEqual(['long begun', 'long done'])
  })

  it('of a run that computes for longer than it counts as there is not dropped', async () => {
    const work = layerWork('patient', 256, 1)
    const timing = { ...shortTiming, heartbeat: 100 }
    const [team, one] = [await coordinator(timing), await worker(timing, STEP)]
    const result = team.run('layer', work, {}) as Promise<LayerResult>
    await one.says('patient begun')
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2 * STEP)
    expect(contentOf(await result)).toEqual(contentOf(await quantizeHere(work, {})))
    expect(one.jobs()).toEqual(['patient begun', 'patient done'])
  })

  it('of a worker that is stopped is done by another, and those after it once each when it goes on', async () => {
    const work = layerWork('stopped', 256, 1)
    const [team, first] = [await coordinator(), await worker()]
    const result = team.run('layer', work, {}) as Promise<LayerResult>
    await first.says('stopped begun')
    first.child.kill('SIGSTOP')
    const second = await worker()
    expect(contentOf(await result)).toEqual(contentOf(await quantizeHere(work, {})))
    first.child.kill('SIGCONT')
    await Promise.all(['x', 'y'].map((name) => team.run('layer', { ...layerWork(name, 64, 2) }, {})))
    const done = [...first.jobs(), ...second.jobs()].filter((line) => line.endsWith('done'))
    expect(done.filter((line) => /^[xy]/.test(line)).sort()).toEqual(['x done', 'y done'])
  })

  it('of a gptvq worker that gets SIGTERM is given back at once', async () => {
    const work = layerWork('given', 256, 1)
    const team = await coordinator()
    const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
    const flags = ['worker', '--redis', server.url, '--threads', '1']
    const child = spawn(process.execPath, ['--import', 'tsx', main, ...flags])
    let said = ''
    child.stderr.on('data', (text) => {
      said += text
      if (said.includes('given: begun')) child.kill('SIGTERM')
    })
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))
    const result = team.run('layer', work, {}) as Promise<LayerResult>
    await ended
    expect(said).toContain('given: dropped')
    const second = await worker()
    expect(contentOf(await result)).toEqual(contentOf(await quantizeHere(work, {})))
    expect(second.jobs()).toEqual(['given begun', 'given done'])
  })

  it('whose Redis does not come back ends with an error', async () => {
    const team = await coordinator({ ...shortTiming, patience: 1500 })
    const lost = team.run('layer', layerWork('alone', 64, 1), {})
    await server.stop()
    await expect(lost).rejects.toThrow(/Redis at redis:\/\/127.* has not answered for .*is it running/)
    await server.start()
  })

  it('that each worker loses ends with an error that names it', async () => {
    const team = await coordinator()
    // a step longer than their patience counts as hung
    const impatient = { ...shortLock, patience: 100 }
    await Promise.all([worker(impatient, STEP), worker(impatient, STEP)])
    const lost = team.run('layer', layerWork('endless', 64, 1), {})
    await expect(lost).rejects.toThrow(UnsupportedError)
    await expect(lost).rejects.toThrow(/'layer' of endless was lost by 11 workers/)
  })
})
