import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  AbortedError,
  CheckpointError,
  NumericError,
  OptionError,
  UnsupportedError,
} from '../../../src/common/errors.js'
import { type QuantizeModelOptions, quantizeModel } from '../../../src/model.js'
import { availableBlas } from '../../support/blas.js'
import { tinyText, writeTinyModel } from '../../support/tiny-model.js'
import { rejectionOf } from '../../support/tolerance.js'
import { baseOptions, filesOf, writeFourBlocks } from './models.js'

const blas = await availableBlas()

let folder: string
let model: string
let next = 0

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-resume-'))
  model = join(folder, 'model')
  await writeFourBlocks(model)
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** A place of its own for an output. */
const place = () => join(folder, `case-${next++}`, 'out')
const leftOf = (output: string) => join(output, '..', '.out.unfinished')

/** What is kept of an unfinished run, by name. */
const workOf = (output: string) => filesOf(leftOf(output))

type Options = Partial<QuantizeModelOptions>

/** Runs until the progress says `words` for the `times`th time, or to the end. @returns the error, if it was stopped */
async function runUntil(output: string, words: string, options: Options = {}, times = 1): Promise<unknown> {
  const controller = new AbortController()
  let seen = 0
  const onProgress = ({ step }: { step: string }) => {
    if (step.includes(words) && ++seen === times) controller.abort()
  }
  const { signal } = controller
  const all = { ...baseOptions, model, output, ...options, onProgress, signal }
  return quantizeModel(all).then(
    () => undefined,
    (error) => error,
  )
}

const run = (output: string, options: Options = {}) =>
  quantizeModel({ ...baseOptions, model, output, ...options })

const kinds: Readonly<Record<string, Options>> = {
  'the defaults': { refinementRounds: undefined },
  'layer order block, shards': { layerOrder: 'block', maxShardBytes: 4000 },
  'no drift correction, layers apart': {
    driftCorrection: 0,
    skip: '*.2.*',
    set: [{ match: '*.v_proj', options: { bits: 3 } }],
  },
  'plain codebooks in 1-D, columns in order of activation': {
    trellisBits: 0,
    vectorDim: 1,
    bpv: 4,
    columnOrder: 'activation',
    codebookBits: 16,
  },
  GPTQ: { method: 'gptq', groupSize: 16, bits: 3, columnsPerGroup: undefined, refinementRounds: undefined },
  'mixed bits': { bits: 'mixed', bpv: 3 },
  'embedding and head by GPTVQ': {
    embeddingBits: 3,
    embeddingMethod: 'gptvq',
    headBits: 2,
    headMethod: 'gptvq',
  },
}

describe('a run that was stopped and resumed', () => {
  it.each(Object.entries(kinds))('writes the files of one without interruption: %s', async (_, options) => {
    const whole = place()
    const before = await run(whole, options)
    const expected = await filesOf(whole)
    for (const block of [2, 4]) {
      const output = place()
      const stopped = await runUntil(output, `block ${block} of 4`, options)
      expect(stopped).toBeInstanceOf(AbortedError)
      expect((stopped as Error).message).toContain(`${block - 1} of 4 blocks done`)
      const report = await run(output, { ...options, resume: true })
      expect(await filesOf(output)).toEqual(expected)
      expect(await readdir(join(output, '..'))).toEqual(['out'])
      const timeless = ({ layers }: typeof report) => layers.map(({ seconds: _, ...layer }) => layer)
      expect(timeless(report)).toEqual(timeless(before))
      expect(report.mixed).toEqual(before.mixed)
      expect(report.calibration).toEqual(before.calibration)
    }
  })

  it('does so when it is stopped again and again', async () => {
    const whole = place()
    await run(whole)
    const output = place()
    let interruptions = 0
    for (let stop = 5; ; stop += 3) {
      const stopped = await runUntil(output, '', { resume: true }, stop)
      if (stopped === undefined) break
      expect(stopped).toBeInstanceOf(AbortedError)
      interruptions++
    }
    expect(interruptions).toBeGreaterThan(4)
    expect(await filesOf(output)).toEqual(await filesOf(whole))
  })

  it('hands out every layer again, as it was', async () => {
    const layersOf = (seen: Map<string, unknown>) => ({
      onLayer: (name: string, layer: unknown) => void seen.set(name, layer),
    })
    const [all, again] = [new Map<string, unknown>(), new Map<string, unknown>()]
    await run(place(), layersOf(all))
    const output = place()
    await runUntil(output, 'block 3 of 4')
    await run(output, { resume: true, ...layersOf(again) })
    expect([...again.keys()]).toEqual([...all.keys()])
    expect(again).toEqual(all)
  })

  it('measures no sensitivity and writes no text twice', async () => {
    const own: Options = { calibration: undefined, sequences: 6, sequenceLength: 24, bits: 'mixed', bpv: 3 }
    const whole = place()
    await run(whole, own)
    const expected = await filesOf(whole)
    const output = place()
    for (const words of [
      'measuring the sensitivity',
      'measuring the sensitivity',
      'block 1 of 4',
      'block 2 of 4',
    ]) {
      const stopped = await runUntil(output, words, { ...own, resume: true }, words.includes('sens') ? 2 : 1)
      expect(stopped).toBeInstanceOf(AbortedError)
    }
    const steps: string[] = []
    await run(output, { ...own, resume: true, onProgress: ({ step }) => steps.push(step) })
    expect(steps.filter((step) => /writing calibration|sensitivity/.test(step))).toEqual([])
    expect(await filesOf(output)).toEqual(expected)
  })

  it('goes on behind the last block with tuning', async () => {
    const tuned: Options = {
      trellisBits: 0,
      bpv: 4,
      tuningEpochs: 1,
      tuningSequences: 4,
      sequences: 12,
      embeddingBits: undefined,
    }
    const whole = place()
    await run(whole, tuned)
    const output = place()
    expect(await runUntil(output, 'training', tuned)).toBeInstanceOf(AbortedError)
    await run(output, { ...tuned, resume: true })
    expect(await filesOf(output)).toEqual(await filesOf(whole))
  })

  it('begins where there is nothing to go on with', async () => {
    const [whole, output] = [place(), place()]
    await run(whole)
    await run(output, { resume: true })
    expect(await filesOf(output)).toEqual(await filesOf(whole))
  })
})

describe('what an interrupted run leaves', () => {
  it('is nothing before a block is done, or where nothing is to be kept', async () => {
    for (const [words, options] of [
      ['block 1 of 4', {}],
      ['block 3 of 4', { unfinished: 'discard' }],
      ['block 3 of 4', { method: 'rtn' }],
    ] as [string, Options][]) {
      const output = place()
      const scalar: Options = options.method
        ? {
            calibration: undefined,
            sequences: undefined,
            sequenceLength: undefined,
            columnsPerGroup: undefined,
            refinementRounds: undefined,
          }
        : {}
      const stopped = await runUntil(output, words, { ...options, ...scalar })
      expect(stopped).toBeInstanceOf(AbortedError)
      expect((stopped as Error).message).toContain('nothing was written')
      expect(await readdir(folder)).not.toContain(output.split('/').at(-2))
    }
  })

  it('is reported with its size and the ways on, and kept, where a run did not ask for it', async () => {
    const output = place()
    await runUntil(output, 'block 3 of 4')
    const before = await filesOf(leftOf(output))
    const error = await rejectionOf(() => run(output))
    expect(error).toBeInstanceOf(CheckpointError)
    expect((error as Error).message).toMatch(
      /out: there is an unfinished run of \d{4}-\d\d-\d\d, 2 of 4 blocks done, \S+ [kM]?B in .*\.out\.unfinished.*--resume \(option resume\).*remove that folder/,
    )
    expect(await filesOf(leftOf(output))).toEqual(before)
    await run(output, { resume: true })
  })

  const changes: [string, Options, RegExp][] = [
    [
      'an option',
      { bits: 3 },
      /begun with bits 2 \(now 3\), trellisBits 8 \(now 6\), bpv 2.125 \(now 3.125\)\./,
    ],
    ['several', { seed: 1, damping: 0.2 }, /damping 0.1 \(now 0.2\), seed 0 \(now 1\)/],
    [
      'the method',
      { method: 'gptq', columnsPerGroup: undefined, refinementRounds: undefined, bits: 2 },
      /begun with method gptvq \(now gptq\)\./,
    ],
    [
      'the text',
      { calibration: { text: tinyText(2600, 4) } },
      /other calibration \(text \w{12}, now text \w{12}\)/,
    ],
    ['the engine', { engine: 'cpu' }, /name 'wasm' \(now 'cpu'\)|engine/],
    ['the products', { products: 'auto' }, /begun with products wasm \(now "blas \(.+\)"\)\./],
  ]

  // where no BLAS is there, auto are the same products
  it.each(changes.filter(([of]) => blas || of !== 'the products'))(
    'is not gone on with after a change of %s, and the error says which',
    async (_, options, words) => {
      const output = place()
      await runUntil(output, 'block 2 of 4', { engine: 'wasm' })
      const before = await filesOf(leftOf(output))
      const error = await rejectionOf(() => run(output, { engine: 'wasm', ...options, resume: true }))
      expect(error).toBeInstanceOf(OptionError)
      expect((error as OptionError).option).toBe('resume')
      expect((error as Error).message).toMatch(words)
      expect(await filesOf(leftOf(output))).toEqual(before)
    },
  )

  it.each([
    [
      'model.safetensors',
      /other weights/,
      (bytes: Buffer) => bytes.fill(1, bytes.length - 2, bytes.length - 1),
    ],
    ['config.json', /another config\.json/, (bytes: Buffer) => `${bytes} `],
    ['tokenizer.json', /other tokens/, (bytes: Buffer) => swapIds(String(bytes), 'e', 't')],
  ] as const)('is not gone on with after a change of %s', async (name, words, change) => {
    const changed = join(folder, `changed-${name}`)
    await cp(model, changed, { recursive: true })
    const output = place()
    await runUntil(output, 'block 2 of 4', { model: changed })
    const path = join(changed, name)
    const original = await readFile(path)
    await writeFile(path, change(Buffer.from(original)))
    const before = await workOf(output)
    const error = await rejectionOf(() => run(output, { model: changed, resume: true }))
    expect(error).toBeInstanceOf(OptionError)
    expect((error as Error).message).toMatch(words)
    expect(await workOf(output)).toEqual(before)
    await writeFile(path, original)
    await run(output, { model: changed, resume: true })
    const whole = place()
    await run(whole, { model: changed })
    expect(await filesOf(output)).toEqual(await filesOf(whole))
  })

  it('can be gone on with on another number of threads', async () => {
    const [whole, output] = [place(), place()]
    await run(whole, { threads: 2 })
    await runUntil(output, 'block 3 of 4', { threads: 1 })
    await run(output, { threads: 2, resume: true })
    expect(await filesOf(output)).toEqual(await filesOf(whole))
  })

  it.each([
    ['the engine', () => new UnsupportedError('no worker for 10 minutes'), UnsupportedError],
    ['the numbers', () => new NumericError('NaN'), NumericError],
    ['the memory', () => new RangeError('Array buffer allocation failed'), RangeError],
    ['the system', () => Object.assign(new Error('EMFILE'), { code: 'EMFILE', syscall: 'open' }), Error],
    ['the platform', () => new DOMException('refused', 'DataError'), DOMException],
  ] as const)('stays after an error of %s, which says where it is', async (_, make, kind) => {
    const output = place()
    const failing = (step: string) => {
      if (step.includes('block 3 of 4')) throw make()
    }
    const error = await rejectionOf(() => run(output, { onProgress: ({ step }) => failing(step) }))
    expect(error).toBeInstanceOf(kind)
    expect((error as Error).message).toMatch(
      /\. What was done is kept for --resume \(option resume\): 2 of 4 blocks done, .*\.out\.unfinished$/,
    )
    const before = await workOf(output)
    const again = await rejectionOf(() =>
      run(output, { resume: true, onProgress: ({ step }) => failing(step) }),
    )
    expect(again).toBeInstanceOf(kind)
    expect(await workOf(output)).toEqual(before)
    await run(output, { resume: true })
    const whole = place()
    await run(whole)
    expect(await filesOf(output)).toEqual(await filesOf(whole))
  })

  it('stays after a NaN behind the first block, and is nothing after one in it', async () => {
    for (const [layer, left] of [
      ['model.layers.1.mlp.down_proj', ['.out.unfinished']],
      ['model.layers.0.mlp.down_proj', []],
    ] as const) {
      const damaged = join(folder, `damaged-${layer}`)
      await writeTinyModel(damaged, {
        tensors: (tensors) => void tensors.get(`${layer}.weight`)!.values.fill(3e38),
      })
      const output = place()
      const error = await rejectionOf(() => run(output, { model: damaged }))
      expect(error).toBeInstanceOf(NumericError)
      expect((error as Error).message).toMatch(/down_proj/)
      expect(await readdir(join(output, '..')).catch(() => [])).toEqual(left)
    }
  })

  it('is refused where nothing would be written or kept', async () => {
    const cases: Options[] = [{ output: undefined }, { unfinished: 'discard' }, { method: 'rtn' }]
    for (const options of cases) {
      const error = await rejectionOf(() => run(place(), { resume: true, ...options }))
      expect(error).toBeInstanceOf(OptionError)
      expect((error as OptionError).option).toBe('resume')
    }
  })
})

/** A tokenizer in which two letters have each other's ids. */
function swapIds(text: string, a: string, b: string): string {
  const tokenizer = JSON.parse(text)
  const { vocab } = tokenizer.model
  ;[vocab[a], vocab[b]] = [vocab[b], vocab[a]]
  return JSON.stringify(tokenizer)
}
