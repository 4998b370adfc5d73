import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import protobuf from 'protobufjs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { EncodingsFile } from '../../../src/export/onnx/encodings.js'
import { exportOnnx } from '../../../src/export/onnx/export-onnx.js'
import { onnxSchema } from '../../../src/export/onnx/schema.js'
import { quantizeModel } from '../../../src/pipeline/quantize/quantize-model.js'
import { tinyText, writeTinyModel } from '../../support/tiny-model.js'

let root: string
let plain: string

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'gptvq-encodings-'))
  plain = join(root, 'plain')
  await writeTinyModel(plain)
})

afterAll(() => rm(root, { recursive: true, force: true }))

interface GraphText {
  readonly initializer: { name: string; dims: number[]; rawData: Uint8Array }[]
  readonly node: { input: string[]; output: string[]; opType: string }[]
}

async function readGraph(folder: string): Promise<GraphText> {
  const type = protobuf.Root.fromJSON(onnxSchema).lookupType('onnx.ModelProto')
  const model = type.decode(await readFile(join(folder, 'onnx', 'model.onnx')))
  return type.toObject(model, { longs: Number }).graph as GraphText
}

async function exported(
  name: string,
  options: object,
): Promise<{ graph: GraphText; encodings: EncodingsFile }> {
  const [model, output] = [join(root, name), join(root, `${name}-onnx`)]
  await quantizeModel({ model: plain, output: model, method: 'rtn', ...options })
  const { files } = await exportOnnx({ model, output, weights: 'dense32', encodings: true })
  expect(files).toContain('onnx/model.encodings')
  const encodings = JSON.parse(await readFile(join(output, 'onnx', 'model.encodings'), 'utf8'))
  return { graph: await readGraph(output), encodings }
}

describe('encodings beside a graph', () => {
  it.each([
    ['groups', { bits: 4, groupSize: 16 }, 'PER_BLOCK'],
    ['whole rows', { bits: 8, groupSize: 64 }, 'PER_CHANNEL'],
    ['few bits', { bits: 3, groupSize: 16 }, 'PER_BLOCK'],
  ])('of %s: each weight is a code of its grid', async (name, options, type) => {
    const { graph, encodings } = await exported(name, options)
    expect(encodings).toMatchObject({ version: '1.0.0', activation_encodings: [], excluded_layers: [] })
    expect(encodings.param_encodings).toHaveLength(14)
    for (const { name, bw, enc_type, block_size, scale, offset } of encodings.param_encodings) {
      expect({ enc_type, bw }).toEqual({ enc_type: type, bw: Math.max(4, options.bits) })
      const { dims, rawData } = graph.initializer.find((one) => one.name === name)!
      const values = new Float32Array(Uint8Array.from(rawData).buffer)
      const run = block_size ?? dims[1]
      expect([scale.length, offset.length]).toEqual([values.length / run, values.length / run])
      for (const [i, value] of values.entries()) {
        const at = Math.floor(i / run)
        const code = value / scale[at] - offset[at]
        expect(Math.abs(code - Math.round(code))).toBeLessThan(1e-4)
        expect(Math.round(code)).toBeGreaterThanOrEqual(0)
        expect(Math.round(code)).toBeLessThan(2 ** bw)
      }
    }
  })

  it('of static ranges of activations: each names what a layer reads', async () => {
    const { graph, encodings } = await exported('static', {
      bits: 8,
      groupSize: 64,
      activationBits: 8,
      activationRange: 'minmax',
      calibration: { text: tinyText(512) },
      sequences: 4,
    })
    const read = new Set(graph.node.filter(({ opType }) => opType === 'Gemm').map(({ input }) => input[0]))
    // queries, keys and values read the same, and so do gate and up
    expect(encodings.activation_encodings).toHaveLength(2 * 4)
    for (const { name, enc_type, bw, scale, offset } of encodings.activation_encodings) {
      expect(read).toContain(name)
      expect({ enc_type, bw }).toEqual({ enc_type: 'PER_TENSOR', bw: 8 })
      expect(scale[0]).toBeGreaterThan(0)
      expect(offset[0]).toBeLessThanOrEqual(0)
      expect(offset[0]).toBeGreaterThanOrEqual(-255)
    }
  })

  it('are refused where there are none to write, and nothing is written', async () => {
    const output = join(root, 'none')
    const vectors = join(root, 'vectors')
    const cheap = { calibration: { text: tinyText(256) }, sequences: 2, refinementRounds: 0, bits: 2 }
    await quantizeModel({ model: plain, output: vectors, ...cheap })
    const write = (model: string, more: object = {}) => {
      return exportOnnx({ model, output, weights: 'dense32', encodings: true, ...more })
    }
    await expect(write(vectors)).rejects.toThrow(/q_proj: is stored as vectors.*--method gptq or rtn/)
    await expect(write(plain, { weights: 'packed' })).rejects.toThrow(/encodings: .*'packed'.*dense32/)
    await expect(write(plain)).rejects.toThrow(/has no quantized layers/)
    expect((await readdir(root)).filter((name) => name.includes('none'))).toEqual([])
  })
})
