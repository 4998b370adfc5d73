import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { exportOnnx } from '../../../../src/export/onnx/export-onnx.js'
import { quantizeModel } from '../../../../src/pipeline/quantize/quantize-model.js'
import { tinyText, writeTinyModel } from '../../../support/tiny-model.js'

let root: string

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'gptvq-onnx-stages-'))
  await writeTinyModel(join(root, 'plain'))
})

afterAll(() => rm(root, { recursive: true, force: true }))

/** Loads a model in a process of its own: the passes that folded constants, and the operations that are left. */
async function loaded(folder: string): Promise<{ passes: number; left: string }> {
  const optimized = join(folder, 'optimized.onnx')
  const options = { intraOpNumThreads: 1, logSeverityLevel: 1, optimizedModelFilePath: optimized }
  const runtime = createRequire(import.meta.url).resolve('onnxruntime-node')
  const script = `
    const { InferenceSession } = require(${JSON.stringify(runtime)})
    const file = ${JSON.stringify(join(folder, 'onnx', 'model.onnx'))}
    InferenceSession.create(file, ${JSON.stringify(options)})`
  const { stderr } = await promisify(execFile)(process.execPath, ['-e', script], { maxBuffer: 2 ** 26 })
  const passes = stderr.match(/GraphTransformer ConstantFolding modified: 1/g)?.length ?? 0
  return { passes, left: await readFile(optimized, 'latin1') }
}

it.each([
  ['trellis codes', { bits: 2, calibration: { text: tinyText(256) }, sequences: 2, refinementRounds: 0 }],
  ['scalars', { method: 'rtn', bits: 4, groupSize: 16 }],
] as const)('%s are decoded when a model is loaded, all of them, in stages', async (name, options) => {
  const [model, output] = [join(root, name), join(root, `${name} onnx`)]
  await quantizeModel({ model: join(root, 'plain'), output: model, ...options })
  await exportOnnx({ model, output })
  expect(await readFile(join(output, 'onnx', 'model.onnx'), 'latin1')).toMatch(/BitwiseAnd/)
  const { passes, left } = await loaded(output)
  expect(passes).toBeGreaterThanOrEqual(8)
  expect(left).not.toMatch(/Bitwise|BitShift|\bIf\b/)
})
