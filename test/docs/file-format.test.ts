import { execFileSync, spawnSync } from 'node:child_process'
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { dequantizeModel, openModel, type QuantizeModelOptions, quantizeModel } from 'gptvq/model'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createCheckpointWriter } from '../../src/checkpoint/output/checkpoint-writer.js'
import { recordOf, storedTensors } from '../../src/checkpoint/quantized/quantized-tensors.js'
import { constantCodebook, widthFactor } from '../../src/codebook/constant-codebook.js'
import { randomGenerator, randomNormal } from '../../src/common/random.js'
import { dequantizeLayer, matrix, packLayer, quantizeKmeans, quantizeLayer } from '../../src/index.js'
import { tinyConfig, tinyText, writeTinyModel } from '../support/tiny-model.js'
import { readQuantizedFolder } from './format-reader.js'

const page = new URL('../../docs/file-format.md', import.meta.url)
const quick = { calibration: { text: tinyText(600) }, sequences: 4, sequenceLength: 32, kmeansIterations: 3 }
const { kmeansIterations: _, ...trellis } = quick
const cases: Record<string, Partial<QuantizeModelOptions>> = {
  '2-D, 8-bit codebooks': quick,
  '1-D, 16-bit codebooks, in shards': {
    ...quick,
    vectorDim: 1,
    bits: 3,
    codebookBits: 16,
    maxShardBytes: 30_000,
  },
  '4-D, 1 bit, groups that do not divide': {
    ...quick,
    vectorDim: 4,
    bits: 1,
    columnsPerGroup: 20,
    groupSize: 140,
  },
  'block scales': { ...quick, scaleBlockSize: 16, columnsPerGroup: 32 },
  'block scales, the last block of a row shorter': { ...quick, scaleBlockSize: 32, columnsPerGroup: 32 },
  'columns in activation order': { ...quick, columnOrder: 'activation' },
  'block scales and activation order': {
    ...quick,
    scaleBlockSize: 16,
    columnsPerGroup: 32,
    columnOrder: 'activation',
  },
  'a trellis, with block scales': { ...trellis, trellisBits: 3, scaleBlockSize: 16, columnsPerGroup: 32 },
  'a trellis, 1.5 bits, starts every 20 rows, activation order': {
    ...trellis,
    bits: 1.5,
    trellisBits: 4,
    columnsPerGroup: 32,
    groupSize: 640,
    columnOrder: 'activation',
  },
  'a trellis of 4-D vectors, without scales': { ...trellis, vectorDim: 4, bits: 1, scaleBlockSize: 'none' },
  'a trellis whose indices are all of 3 bits': { ...trellis, bits: 1.5, indexWidths: 'same' },
  'trellises of mixed bits': { ...trellis, bpv: 3, refinementRounds: 1 },
  'a trellis of single weights': { ...trellis, vectorDim: 1, bits: 1, trellisBits: 5 },
  'GPTQ, 3 bits, groups that do not divide': {
    ...{ calibration: quick.calibration, sequences: 4, sequenceLength: 32 },
    ...{ method: 'gptq', bits: 3, groupSize: 20 },
  },
  'RTN, 5 bits': { method: 'rtn', bits: 5, groupSize: 16 },
  'RTN, symmetric, per channel, 8 bits': {
    method: 'rtn',
    bits: 8,
    granularity: 'channel',
    grid: 'symmetric',
  },
  'RTN, per tensor, scales by the outputs': {
    ...{ calibration: quick.calibration, sequences: 4, sequenceLength: 32 },
    ...{ method: 'rtn', bits: 4, granularity: 'tensor', scaleSearch: 'sequential-mse' },
  },
}

let folder: string
let model: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-format-'))
  model = (await writeTinyModel(join(folder, 'model'))).folder
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const made = new Map<string, Promise<string>>()

/** The quantized folder of a case, made when first asked for. */
function quantized(name: string): Promise<string> {
  const output = join(folder, name.replace(/\W+/g, '-'))
  if (!made.has(name)) {
    made.set(
      name,
      quantizeModel({ model, output, ...cases[name] }).then(() => output),
    )
  }
  return made.get(name)!
}

describe('a reader written from the page on the format', () => {
  it.each(Object.keys(cases))('gives the weights that the library gives, bit for bit: %s', async (name) => {
    const output = await quantized(name)
    const weights = readQuantizedFolder(output)
    expect(weights.size).toBe(7 * tinyConfig.num_hidden_layers)
    const opened = await openModel(output)
    try {
      for (const [tensor, values] of weights) {
        expect(Buffer.compare(bytesOf(values), bytesOf(await opened.source.floats(tensor))), tensor).toBe(0)
      }
    } finally {
      await opened.close()
    }
  })

  it('gives them for layers whose last vector is padded and whose last groups are smaller', async () => {
    const output = join(folder, 'ragged')
    const layers = await raggedLayers()
    const writer = await createCheckpointWriter(output)
    const records: [string, unknown][] = []
    for (const [name, { packed }] of layers) {
      for (const { name: tensor, dtype, shape, bytes } of storedTensors(name, packed)) {
        await writer.add(tensor, dtype, shape, bytes)
      }
      records.push([name, recordOf(packed, 'F32', null)])
    }
    const quantization = { quant_method: 'gptvq', version: 2, modules: Object.fromEntries(records) }
    await writer.addFile('config.json', JSON.stringify({ quantization_config: quantization }))
    await writer.finish()
    const weights = readQuantizedFolder(output)
    expect(weights.size).toBe(layers.size)
    for (const [name, { values }] of layers) {
      expect(Buffer.compare(bytesOf(weights.get(`${name}.weight`)!), bytesOf(values)), name).toBe(0)
    }
  })
})

it('the constant codebook of the page is that of the library', async () => {
  const tables = JSON.parse(await readFile(new URL('gaussian-1.json', page), 'utf8'))
  for (const d of [1, 2, 4]) {
    const { elements, factors } = tables[d]
    expect(new Int8Array(Buffer.from(elements, 'base64'))).toEqual(constantCodebook(d, 4096))
    expect(factors).toEqual(Array.from({ length: 12 }, (_, i) => widthFactor(d, i + 1)))
  }
})

const python = ['python3', 'python'].find((name) => spawnSync(name, ['--version']).status === 0)
if (python === undefined && !process.env.CI) {
  console.warn('No Python: the program at the end of docs/file-format.md is not tried')
}

describe.skipIf(python === undefined && !process.env.CI)('the Python program of the page', () => {
  it.each([
    '2-D, 8-bit codebooks',
    'block scales',
    'columns in activation order',
    'block scales and activation order',
    'a trellis, with block scales',
    'a trellis, 1.5 bits, starts every 20 rows, activation order',
    'a trellis of 4-D vectors, without scales',
    'a trellis whose indices are all of 3 bits',
    'trellises of mixed bits',
    'a trellis of single weights',
    'GPTQ, 3 bits, groups that do not divide',
  ])('agrees with gptvq dequantize bit for bit: %s', async (name) => {
    const [, program] = /```python\n([\s\S]*?)```/.exec(await readFile(page, 'utf8'))!
    const script = join(folder, 'read_gptvq.py')
    await writeFile(script, program)
    await copyFile(new URL('gaussian-1.json', page), join(folder, 'gaussian-1.json'))
    const output = await quantized(name)
    const plain = `${output}-plain`
    await dequantizeModel({ model: output, output: plain, dtype: 'F32' })
    const said = execFileSync(python ?? 'python3', [script, output, plain], { encoding: 'utf8' })
    expect(said.trim()).toBe('14 layers equal, bit for bit')
  })
})

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength)
}

async function raggedLayers() {
  const random = randomGenerator(5)
  const weight = (rows: number, cols: number) =>
    matrix(
      rows,
      cols,
      Float32Array.from({ length: rows * cols }, () => randomNormal(random)),
    )
  const identity = (n: number) =>
    matrix(
      n,
      n,
      Float32Array.from({ length: n * n }, (_, i) => Number(i % (n + 1) === 0)),
    )
  const layers = [
    quantizeKmeans(weight(5, 7), { vectorDim: 2, bits: 1, columnsPerGroup: 4, groupSize: 8 }),
    quantizeKmeans(weight(9, 10), {
      vectorDim: 4,
      bits: 1,
      columnsPerGroup: 8,
      groupSize: 64,
      codebookBits: 16,
    }),
    await quantizeLayer(weight(6, 37), identity(37), {
      ...{ vectorDim: 2, bits: 2, columnsPerGroup: 16, groupSize: 64, scaleBlockSize: 16 },
    }),
    await quantizeLayer(weight(6, 37), identity(37), {
      ...{ vectorDim: 4, bits: 1, trellisBits: 2, columnsPerGroup: 16, groupSize: 64, scaleBlockSize: 16 },
    }),
  ]
  return new Map(
    layers.map((layer, i) => [
      `layer${i}`,
      { packed: packLayer(layer), values: dequantizeLayer(layer).data },
    ]),
  )
}
