/** Writes a quantized model as ONNX and runs it in transformers.js. Run: npx tsx examples/export-onnx.ts */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { env, pipeline } from '@huggingface/transformers'
import { exportOnnx } from 'gptvq/export'
import { quantizeModel } from 'gptvq/model'

const models = mkdtempSync(join(tmpdir(), 'gptvq-onnx-'))
const model = join(models, 'quantized')
await quantizeModel({ model: 'examples/models/tiny-llama', output: model, method: 'rtn', bits: 4 })
const { modelBytes } = await exportOnnx({ model, output: join(models, 'tiny') })
console.log(`onnx/model.onnx has ${(modelBytes / 1e6).toFixed(1)} MB`)

// nothing is fetched: the model is the folder "tiny" in the folder of local models
Object.assign(env, { allowRemoteModels: false, localModelPath: `${models}/` })
const generate = await pipeline('text-generation', 'tiny')
const [written] = await generate('The king', { max_new_tokens: 24, do_sample: false })
console.log(written)
await generate.dispose()
rmSync(models, { recursive: true })
