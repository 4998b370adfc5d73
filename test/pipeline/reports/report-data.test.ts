import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CheckpointError } from '../../../src/common/errors.js'
import { inspectModel } from '../../../src/pipeline/folders/inspect-model.js'
import { quantizeModel } from '../../../src/pipeline/quantize/quantize-model.js'
import type { QuantizationReport } from '../../../src/pipeline/quantize/report.js'
import { reportData } from '../../../src/pipeline/reports/report-data.js'
import { writeReport } from '../../../src/pipeline/reports/write-report.js'
import type { ReportData } from '../../../src/report/page/report-data.js'
import { tinyText, writeTinyModel } from '../../support/tiny-model.js'

let folder: string
const at = (name: string) => join(folder, name)
let gptvq: QuantizationReport
let rtn: QuantizationReport

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-report-'))
  await writeTinyModel(at('model'))
  await writeFile(at('text.txt'), tinyText(2000, 2))
  const common = { model: at('model'), bits: 2, engine: 'cpu' } as const
  gptvq = await quantizeModel({
    ...common,
    output: at('gptvq'),
    calibration: at('text.txt'),
    sequences: 4,
    groupSize: 512,
    columnsPerGroup: 16,
  })
  rtn = await quantizeModel({ ...common, output: at('rtn'), method: 'rtn', groupSize: 16 })
})

afterAll(() => rm(folder, { recursive: true, force: true }))

describe('what is read from a quantized folder', () => {
  test.each(['gptvq', 'rtn'] as const)('agrees with the report of quantizing it by %s', async (name) => {
    const report = name === 'gptvq' ? gptvq : rtn
    const data = await reportData({ model: at(name) })
    expect(data).toMatchObject({ model: at(name), architecture: 'LlamaForCausalLM', method: name })
    expect(data.settings).toEqual(JSON.parse(JSON.stringify(report.settings)))
    expect(
      data.layers.map(({ name, rows, cols, bytes, relativeError, driftMove = null, bitsPerValue }) => ({
        name,
        rows,
        cols,
        bytes,
        relativeError,
        driftMove,
        bitsPerValue,
      })),
    ).toEqual(
      report.layers.map(({ seconds: _, tokens: __, pooled: ___, zeros: ____, drift, ...layer }) => ({
        ...layer,
        driftMove: drift?.move ?? null,
      })),
    )
    const before = data.layers.reduce((sum, layer) => sum + layer.bytesBefore, 0)
    expect(before).toBe(report.layerBytes.before)
  })

  test('counts the tensors that were kept as inspect does', async () => {
    const { weights, bytes } = await inspectModel(at('gptvq'))
    const kept = weights.filter(({ quantized }) => !quantized)
    const data = await reportData({ model: at('gptvq') })
    expect(data.kept.tensors).toBe(kept.length)
    expect(data.kept.bytes + data.layers.reduce((sum, layer) => sum + layer.bytes, 0)).toBe(bytes)
  })

  test('shows the codebooks of the best and the worst layer, over the weights of the reference', async () => {
    const byError = [...gptvq.layers].sort((a, b) => (a.relativeError ?? 0) - (b.relativeError ?? 0))
    const data = await reportData({ model: at('gptvq'), reference: at('model'), codebooks: 2 })
    const shown = data.codebooks?.map(({ layer }) => layer)
    expect(new Set(shown)).toEqual(new Set([byError[0].name, byError[byError.length - 1].name]))
    expect(data.source).toBe(at('model'))
    for (const { weights, centroids, counts } of data.codebooks ?? []) {
      expect(centroids.length).toBe(2 * 4096)
      expect(weights?.length).toBe(2 * Array.from(counts ?? []).reduce((sum, count) => sum + count, 0))
    }
  })

  test('shows as many codebooks as asked for, none for scalar layers', async () => {
    const shown = async (model: string, codebooks: number) =>
      (await reportData({ model: at(model), codebooks })).codebooks?.length
    expect(await shown('gptvq', 0)).toBe(0)
    expect(await shown('gptvq', 1)).toBe(1)
    expect(await shown('gptvq', 100)).toBe(gptvq.layers.length)
    expect(await shown('rtn', 3)).toBe(0)
  })

  test('refuses a plain folder, a quantized reference, another model as reference', async () => {
    await writeTinyModel(at('other'), {
      tensors: (tensors) =>
        tensors.set('model.layers.0.mlp.up_proj.weight', { shape: [4, 4], values: new Float32Array(16) }),
    })
    await expect(reportData({ model: at('model') })).rejects.toThrow(
      /is not quantized, so there is nothing to report/,
    )
    await expect(reportData({ model: at('gptvq'), reference: at('rtn') })).rejects.toThrow(/is quantized too/)
    await expect(reportData({ model: at('gptvq'), reference: at('other'), codebooks: 100 })).rejects.toThrow(
      CheckpointError,
    )
    await expect(reportData({ model: at('gptvq'), codebooks: -1 })).rejects.toThrow(/^codebooks: /)
  })
})

describe('writing the report', () => {
  const written = (data: ReportData) => data.layers.map(({ name }) => name)
  const partials = async () => (await readdir(folder)).filter((name) => name.includes('partial'))

  test('gives one whole page, the same every time, in a folder of its own if need be', async () => {
    const first = await writeReport({ model: at('gptvq'), output: at('new/one.html') })
    const text = await readFile(at('new/one.html'), 'utf8')
    expect(Buffer.byteLength(text)).toBe(first.bytes)
    expect(text.endsWith('</html>\n')).toBe(true)
    for (const name of written(first.data)) expect(text).toContain(`data-value="${name}"`)
    await writeReport({ model: at('gptvq'), output: at('two.html') })
    expect(await readFile(at('two.html'), 'utf8')).toBe(text)
    expect(await partials()).toEqual([])
  })

  test('keeps what is there unless forced, and replaces nothing but reports', async () => {
    const output = at('there.html')
    await writeFile(output, '<!doctype html>\nan older report')
    await expect(writeReport({ model: at('rtn'), output })).rejects.toThrow(/exists.*--force/)
    expect(await readFile(output, 'utf8')).toContain('an older report')
    await writeReport({ model: at('rtn'), output, force: true })
    expect(await readFile(output, 'utf8')).not.toContain('an older report')

    const config = at('rtn/config.json')
    const before = await readFile(config, 'utf8')
    await expect(writeReport({ model: at('rtn'), output: config, force: true })).rejects.toThrow(
      /does not look like a report/,
    )
    expect(await readFile(config, 'utf8')).toBe(before)
    await expect(writeReport({ model: at('rtn'), output: at('gptvq'), force: true })).rejects.toThrow(
      CheckpointError,
    )
  })

  test('writes nothing when it is stopped or the folder is damaged', async () => {
    const output = at('never.html')
    await expect(writeReport({ model: at('rtn'), output, signal: AbortSignal.abort() })).rejects.toThrow(
      /stopped/,
    )
    await expect(writeReport({ model: at('model'), output })).rejects.toThrow(CheckpointError)
    expect(await readdir(folder)).not.toContain('never.html')
    expect(await partials()).toEqual([])
  })

  test('progress never falls and ends at 1', async () => {
    const shares: number[] = []
    await writeReport({ model: at('rtn'), output: at('p.html'), onProgress: ({ done }) => shares.push(done) })
    expect(shares.at(-1)).toBe(1)
    for (let i = 1; i < shares.length; i++) expect(shares[i]).toBeGreaterThanOrEqual(shares[i - 1])
  })
})
