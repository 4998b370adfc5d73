import { execFile, spawnSync } from 'node:child_process'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OptionError } from '../../../src/common/errors.js'
import { setThreads, threadCount } from '../../../src/kernels/kernels.js'
import { type QuantizeModelOptions, quantizeModel } from '../../../src/model.js'
import { batchesInMemory, leastMemory } from '../../../src/pipeline/calibrate/memory-bound.js'
import { THREAD_BYTES } from '../../../src/pipeline/estimate/peak-memory.js'
import { prepareRun } from '../../../src/pipeline/quantize/prepare-run.js'
import { fixtureFolder } from '../../model/families/fixture.js'
import { rejectionOf } from '../../support/tolerance.js'
import { baseOptions, filesOf, writeFourBlocks } from '../resume/models.js'

let folder: string
let model: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-memory-'))
  model = join(folder, 'model')
  await writeFourBlocks(model)
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** The least memory of a run, and so much more that one batch of each stream stays. */
async function boundsOf(options: QuantizeModelOptions): Promise<number[]> {
  const prepared = await prepareRun(options)
  try {
    const least = Math.ceil(leastMemory(prepared))
    let one = least
    while (batchesInMemory(prepared, { memory: one }) < 1) one += 100_000
    return [least, one]
  } finally {
    await prepared.checkpoint.close()
  }
}

/** Runs `peak-of-run.ts` in a process of its own, perhaps under a limit. */
async function peakOf(limit: readonly string[], ...args: string[]) {
  const script = fileURLToPath(new URL('./peak-of-run.ts', import.meta.url))
  const [command, ...rest] = [...limit, process.execPath, '--import', 'tsx', script, ...args]
  const { stdout } = await promisify(execFile)(command, rest)
  return JSON.parse(stdout) as { bound: number; peak: number; digest: string }
}

/** Resident bytes of a process that has so many threads at work. */
async function residentWith(threads: number): Promise<number> {
  const script = fileURLToPath(new URL('./peak-of-threads.ts', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', script, String(threads)])
  return Number(stdout)
}

/** Whether the system can limit the data of a process; where not, one line says that a test is left out. */
function hasLimits(): boolean {
  if (spawnSync('prlimit', ['--data=4000000000', process.execPath, '--version']).status === 0) return true
  console.warn('There is no prlimit (Debian: util-linux): the test of --memory under a limit is skipped')
  return false
}

const kinds: Readonly<Record<string, Partial<QuantizeModelOptions>>> = {
  'the defaults': {},
  'layer order block': { layerOrder: 'block' },
  'GPTQ, nothing kept': {
    method: 'gptq',
    groupSize: 16,
    columnsPerGroup: undefined,
    refinementRounds: undefined,
    unfinished: 'discard',
  },
}

describe('a run with a bound on its memory', () => {
  it.each(Object.entries(kinds))(
    'gives the bytes of one without, and leaves nothing: %s',
    async (_, options) => {
      const all = { ...baseOptions, model, ...options }
      const output = join(folder, 'whole')
      await quantizeModel({ ...all, output })
      const expected = await filesOf(output)
      for (const memory of await boundsOf(all)) {
        const bounded = join(folder, 'bounded')
        await quantizeModel({ ...all, output: bounded, memory })
        expect(await filesOf(bounded)).toEqual(expected)
        await rm(bounded, { recursive: true })
      }
      expect((await readdir(folder)).sort()).toEqual(['model', 'whole'])
      await rm(output, { recursive: true })
    },
  )

  it('can be stopped and resumed, with another bound or none', async () => {
    const all = { ...baseOptions, model }
    const output = join(folder, 'whole')
    await quantizeModel({ ...all, output })
    const [memory] = await boundsOf(all)
    const resumed = join(folder, 'resumed')
    for (const [stop, bound] of [
      ['block 2', memory],
      ['block 3', undefined],
      ['block 4', memory],
    ] as const) {
      const controller = new AbortController()
      const onProgress = ({ step }: { step: string }) => {
        if (step.includes(stop)) controller.abort()
      }
      const { signal } = controller
      const bounded = bound === undefined ? {} : { memory: bound }
      await rejectionOf(() =>
        quantizeModel({ ...all, output: resumed, resume: true, ...bounded, onProgress, signal }),
      )
      expect(await readdir(join(folder, '.resumed.unfinished'))).not.toContain('spill')
    }
    await quantizeModel({ ...all, output: resumed, resume: true, memory })
    expect(await filesOf(resumed)).toEqual(await filesOf(output))
  })

  it('takes experts one after the other from the disk', async () => {
    const sequences = Array.from({ length: 130 }, (_, s) =>
      Int32Array.from({ length: 20 }, (_, i) => (7 * s + i * i) % 60),
    )
    const all = {
      model: join(fixtureFolder, 'mixtral-full'),
      calibration: { sequences },
      trellisBits: 0,
      bpv: 8,
      refinementRounds: 0,
    }
    const layersOf = async (memory: object) => {
      const layers = new Map<string, unknown>()
      await quantizeModel({ ...all, ...memory, onLayer: (name, layer) => layers.set(name, layer) })
      return layers
    }
    const [memory] = await boundsOf(all)
    expect(await layersOf({ memory })).toEqual(await layersOf({}))
  })

  it('that cannot be kept is refused with the least that can', async () => {
    const all = { ...baseOptions, model }
    const error = await rejectionOf(() => quantizeModel({ ...all, memory: 1e8 }))
    expect(error).toBeInstanceOf(OptionError)
    expect((error as OptionError).option).toBe('memory')
    expect((error as Error).message).toMatch(/100 MB is too little .* at least [3-9]\d\d MB are needed/)
    for (const memory of [0, Number.NaN, -5]) {
      expect(await rejectionOf(() => quantizeModel({ ...all, memory }))).toBeInstanceOf(OptionError)
    }
    const tuned = { ...all, trellisBits: 0, tuningEpochs: 1, bpv: 4, memory: 1e10 } as const
    expect(String(await rejectionOf(() => quantizeModel(tuned)))).toMatch(/memory: tuning keeps all/)
  })

  it('has room for every thread, of which none takes more', async () => {
    const [one, many] = await Promise.all([1, 12].map(residentWith))
    const perThread = (many - one) / 11
    expect(perThread).toBeGreaterThan(THREAD_BYTES / 4)
    expect(perThread).toBeLessThan(THREAD_BYTES)
    const least = async (threads: number) => {
      setThreads(threads)
      const prepared = await prepareRun({ ...baseOptions, model })
      await prepared.checkpoint.close()
      return leastMemory(prepared)
    }
    const threads = threadCount()
    try {
      expect((await least(12)) - (await least(1))).toBe(11 * THREAD_BYTES)
    } finally {
      setThreads(threads)
    }
  })

  it('keeps to it, up to 100 MB: measured as the largest resident set of a process, and under a limit', async () => {
    const place = join(folder, 'wide')
    const bounded = await peakOf([], place, 'bounded')
    const free = await peakOf([], place, 'free')
    expect(bounded.peak).toBeLessThan(bounded.bound + 100e6)
    // the bound binds: without it the same run needs more
    expect(free.peak).toBeGreaterThan(bounded.peak + 60e6)
    expect(bounded.digest).toBe(free.digest)
    if (!hasLimits()) return
    // data, not addresses: WebAssembly and the garbage collector reserve far more of these than they use
    const limit = ['prlimit', `--data=${bounded.bound + 100e6}`]
    expect(await peakOf(limit, place, 'bounded')).toMatchObject({ bound: bounded.bound, digest: free.digest })
    await expect(peakOf(limit, place, 'free')).rejects.toThrow()
  }, 800_000)
})
