import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import * as web from 'onnxruntime-web'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { randomGenerator } from '../../../src/common/random.js'
import { addRows, choosing, routesOf } from '../../../src/export/onnx/decoder/routes.js'
import { exportOnnx } from '../../../src/export/onnx/export-onnx.js'
import { constant, node } from '../../../src/export/onnx/graph.js'
import { routeRows } from '../../../src/model/ops/kernels/kernel-routing.js'
import { quantizeModel } from '../../../src/pipeline/quantize/quantize-model.js'
import { fixtureNames, openFixture, rangeOf, worstDifference } from '../../model/families/fixture.js'
import { runGraph } from './run-graph.js'
import { onnxLogits, worstShareOf } from './run-onnx.js'

const routed = fixtureNames.filter((name) => /^(mixtral|olmoe|qwen2_moe|qwen3_moe)/.test(name))
const vectors = {
  bits: 2,
  kmeansIterations: 3,
  refinementRounds: 0,
  groupSize: 512,
  columnsPerGroup: 32,
} as const

let root: string

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'gptvq-onnx-experts-'))
})

afterAll(() => rm(root, { recursive: true, force: true }))

describe('quantized experts give the logits that they give here', () => {
  it.each(routed)('%s', async (name) => {
    const { folder, tokens } = await openFixture(name)
    const calibration = { sequences: [tokens.slice(0, 20), tokens.slice(20)] }
    const ways = {
      trellis: [{ ...vectors, calibration }, ['packed', 'dense32']],
      scalars: [{ method: 'rtn', bits: 4, groupSize: 16 }, ['packed', 'nbits']],
    } as const
    for (const [way, [options, forms]] of Object.entries(ways)) {
      const model = join(root, `${name} ${way}`)
      await quantizeModel({ model: folder, output: model, ...options })
      for (const weights of forms) {
        const output = `${model} ${weights}`
        await exportOnnx({ model, output, weights })
        expect(await worstShareOf(tokens, output, model)).toBeLessThan(1e-5)
      }
    }
  })

  it.each(['packed', 'nbits'] as const)(
    'on WebAssembly, %s, experts without a token too',
    async (weights) => {
      const { folder, tokens } = await openFixture('mixtral-full')
      const [model, output] = [join(root, `web ${weights}`), join(root, `web ${weights} onnx`)]
      await quantizeModel({ model: folder, output: model, method: 'rtn', bits: 4, groupSize: 16 })
      await exportOnnx({ model, output, weights })
      web.env.wasm.numThreads = 1
      const file = await readFile(join(output, 'onnx', 'model.onnx'))
      const session = await web.InferenceSession.create(file)
      const one = tokens.slice(0, 20)
      const whole = await onnxLogits(session, one, 1, [20])
      const alone = await onnxLogits(session, one, 1, new Array(20).fill(1))
      await session.release()
      expect(worstDifference(alone, whole) / rangeOf(whole)).toBeLessThan(1e-5)
    },
  )
})

describe('the experts of a token', () => {
  it('are those that are chosen here, with their shares, whatever the logits, equal ones among them', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 12 }),
        fc.boolean(),
        fc.integer(),
        async (tokens, experts, stated, sumToOne, seed) => {
          const active = Math.min(stated, experts)
          const random = randomGenerator(seed)
          // few values, so that some are equal
          const data = Float32Array.from({ length: tokens * experts }, () => Math.floor(8 * random()) - 4)
          const { values } = await runGraph(async (graph) => {
            const logits = constant(graph, 'float32', data, [tokens, experts])
            const routes = routesOf(graph, logits, active, sumToOne)
            const none = constant(graph, 'float32', new Float32Array(tokens), [tokens, 1])
            const columns = Array.from({ length: experts }, (_, expert) => {
              const own = choosing(graph, routes, expert)
              return addRows(graph, none, own.tokens, own.shares)
            })
            return { value: node(graph, 'Concat', columns, { axis: 1 }), type: 'float32' }
          })
          const { weights } = routeRows({ data, rows: tokens, cols: experts }, active, sumToOne)
          expect(worstDifference(Float32Array.from(values), weights.data)).toBeLessThan(1e-6)
        },
      ),
      { numRuns: 60 },
    )
  })
})
