import { access, copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CheckpointError, NumericError, OptionError } from '../../../src/common/errors.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import type { OnProgress } from '../../../src/pipeline/progress.js'
import { quantizeModel } from '../../../src/pipeline/quantize/quantize-model.js'
import { type DistillModelOptions, distillModel } from '../../../src/train/distill-model.js'
import { trainModel } from '../../../src/train/train-model.js'
import type { TrainModelOptions } from '../../../src/train/train-model-options.js'
import { writeTinyModel } from '../../support/tiny-model.js'
import { rejectionOf } from '../../support/tolerance.js'
import { stopAtStep, trainingSequences } from '../../support/training.js'

let place = ''
let model = ''
let start = ''
let state = ''

beforeAll(async () => {
  await startEngine('wasm')
  place = await mkdtemp(join(tmpdir(), 'gptvq-state-'))
  ;({ folder: model } = await writeTinyModel(join(place, 'model')))
  start = await quantized(2, 'start')
  state = join(place, 'state')
  stopped = (await rejectionOf(() => trainModel({ ...options(), ...stopAtStep(8) }))) as Error
})

afterAll(() => rm(place, { recursive: true, force: true }))

let stopped: Error
const sequences = trainingSequences()

const options = (changes: Partial<TrainModelOptions> = {}): TrainModelOptions => ({
  ...{ model, start, output: join(place, 'out'), text: { sequences }, engine: 'wasm', checkpoint: state },
  ...{ method: 'lr-qat', rank: 4, learningRate: 0.02, epochs: 3, batch: 4, patience: 9 },
  ...changes,
})

async function quantized(bits: number, name: string): Promise<string> {
  const output = join(place, name)
  await quantizeModel({ model, output, method: 'rtn', bits, groupSize: 16 })
  return output
}

/** The state file with another record. */
async function withRecord(change: (record: Record<string, unknown>) => unknown): Promise<string> {
  const file = await readFile(state)
  const length = Number(file.readBigUInt64LE(0))
  const header = JSON.parse(file.subarray(8, 8 + length).toString())
  const { __metadata__: metadata } = header
  metadata.gptvq_training = JSON.stringify(change(JSON.parse(metadata.gptvq_training)))
  const text = JSON.stringify(header)
  const padded = Buffer.from(text.padEnd(8 * Math.ceil(text.length / 8)))
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(BigInt(padded.length))
  const path = join(place, 'changed-state')
  await writeFile(path, Buffer.concat([prefix, padded, file.subarray(8 + length)]))
  return path
}

type Run = (onProgress: OnProgress) => Promise<unknown>

/** Steps that a call got to before it failed, and how it failed. */
async function failureOf(run: Run) {
  const steps: string[] = []
  const error = await rejectionOf(() => run(({ step }) => steps.push(step)))
  return { error, steps }
}

describe('the state of a training', () => {
  it('is told of where the training was stopped', async () => {
    expect(stopped.message).toBe(
      `stopped by the caller before it was done; the state of step 6 is in ${state}, the same again goes on from it`,
    )
    const early = { ...options({ checkpoint: join(place, 'early') }), ...stopAtStep(2) }
    expect(((await rejectionOf(() => trainModel(early))) as Error).message).toMatch(/; nothing was written$/)
    // stopped again before the next measurement, the one before still counts
    const copy = join(place, 'again')
    await copyFile(state, copy)
    const again = { ...options({ checkpoint: copy }), ...stopAtStep(9) }
    expect(((await rejectionOf(() => trainModel(again))) as Error).message).toContain('state of step 6')
  })

  it('is not called its own by a call that was stopped before it compared the two', async () => {
    const other = { ...options({ learningRate: 0.5 }), signal: AbortSignal.abort() }
    expect(((await rejectionOf(() => trainModel(other))) as Error).message).toMatch(/; nothing was written$/)
  })

  it('stays as it was when numbers overflow, which ends the training', async () => {
    const checkpoint = join(place, 'poisoned')
    const file = await readFile(state)
    const start = 8 + Number(file.readBigUInt64LE(0))
    const { __metadata__: _, ...tensors } = JSON.parse(file.subarray(8, start).toString())
    const [, { data_offsets: offsets }] = Object.entries<{ data_offsets: number[] }>(tensors).find(([name]) =>
      name.endsWith('norm.weight#0.values'),
    )!
    const huge = Float32Array.of(1e38)
    file.fill(new Uint8Array(huge.buffer), start + offsets[0], start + offsets[1])
    await writeFile(checkpoint, file)
    const error = await rejectionOf(() => trainModel(options({ checkpoint })))
    expect(error).toBeInstanceOf(NumericError)
    expect((error as Error).message).toMatch(
      /^training ran away by step 6, train with a lower learningRate \(block 0: its output is NaN/,
    )
    expect(await readFile(checkpoint)).toEqual(file)
  })

  it('is refused for another start, another teacher and another model', async () => {
    const { folder: other } = await writeTinyModel(join(place, 'other'), { seed: 2 })
    const { folder: bare } = await writeTinyModel(join(place, 'bare'), {
      tensors: (tensors) => tensors.get('lm_head.weight')!.values.reverse(),
    })
    const changes: [Partial<TrainModelOptions>, string][] = [
      [{ start: await quantized(3, 'start-3') }, 'begun with other weights to start from.'],
      [{ teacher: other }, 'begun with another teacher.'],
      [{ teacher: bare }, 'begun with another teacher.'],
    ]
    for (const [change, words] of changes) {
      const error = await rejectionOf(() => trainModel(options(change)))
      expect(error).toBeInstanceOf(OptionError)
      expect((error as Error).message).toContain(words)
    }
    // a student and the head that it is run with
    const checkpoint = join(place, 'distilled-state')
    const distilled = {
      ...{ teacher: other, output: join(place, 'distilled'), text: { sequences }, checkpoint, batch: 4 },
      ...{ engine: 'wasm' as const },
    }
    await rejectionOf(() => distillModel({ ...distilled, student: model, ...stopAtStep(8) }))
    const error = await rejectionOf(() => distillModel({ ...distilled, student: bare }))
    expect((error as Error).message).toContain('begun with another model.')
  })

  it.each<[string, (record: Record<string, unknown>) => unknown]>([
    ['without an identity', (record) => ({ ...record, identity: null })],
    ['with an empty identity', (record) => ({ ...record, identity: {} })],
    ['without points', ({ points, ...record }) => record],
    ['with a point that is none', (record) => ({ ...record, points: [{}] })],
    ['that kept a point which is not there', (record) => ({ ...record, kept: 99 })],
    ['of a step before the first', (record) => ({ ...record, step: -1 })],
    ['of a step that is text', (record) => ({ ...record, step: '6' })],
    ['of a step beyond the end', (record) => ({ ...record, step: 1e9 })],
    ['that is no record', () => null],
  ])('is refused as damaged %s, before any work', async (_, change) => {
    const checkpoint = await withRecord(change)
    const { error, steps } = await failureOf((onProgress) => trainModel(options({ checkpoint, onProgress })))
    expect(error).toBeInstanceOf(CheckpointError)
    expect((error as Error).message).toContain(`${checkpoint}: is no state of a training`)
    expect(steps).toEqual([])
  })
})

describe('places of a training', () => {
  it('are tried before any work, and left as they were', async () => {
    const taken = join(place, 'taken')
    await mkdir(taken)
    await writeFile(join(taken, 'file'), '')
    const blocked = join(taken, 'file', 'state')
    const before = await readdir(place)
    const distilled = { teacher: model, keepBlocks: [0], text: { sequences }, engine: 'wasm' } as const
    const out = join(place, 'out')
    const train = (changes: Partial<TrainModelOptions>) => (onProgress: OnProgress) =>
      trainModel(options({ ...changes, onProgress }))
    const distill = (changes: Partial<DistillModelOptions>) => (onProgress: OnProgress) =>
      distillModel({ ...distilled, output: out, ...changes, onProgress })
    const isTaken = /taken: exists and is not empty/
    const isInside = /checkpoint: .*state lies in the folder of the (output|model|start|teacher), /
    const failures: [Run, new (...given: never[]) => Error, RegExp][] = [
      [train({ output: taken }), CheckpointError, isTaken],
      [distill({ output: taken }), CheckpointError, isTaken],
      [train({ checkpoint: '' }), OptionError, /checkpoint: expected a path/],
      [train({ checkpoint: 'a\0b' }), OptionError, /checkpoint: expected a path/],
      [train({ checkpoint: join(out, 'state') }), OptionError, isInside],
      [train({ checkpoint: join(model, 'state') }), OptionError, isInside],
      [train({ checkpoint: join(start, 'state') }), OptionError, isInside],
      [distill({ checkpoint: join(model, 'state') }), OptionError, isInside],
      [train({ checkpoint: taken }), CheckpointError, /taken/],
      [train({ checkpoint: blocked }), CheckpointError, /cannot read the state of the training in .*ENOTDIR/],
    ]
    for (const [run, kind, message] of failures) {
      const { error, steps } = await failureOf(run)
      expect(error).toBeInstanceOf(kind)
      expect((error as Error).message).toMatch(message)
      expect(steps).toEqual([])
    }
    expect(await readdir(place)).toEqual(before)
    await access(state)
  })
})
