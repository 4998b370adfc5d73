/** Writes a few tokens with an exported model in onnxruntime, by hand. Run: npx tsx examples/onnxruntime.ts */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { exportOnnx } from 'gptvq/export'
import { loadTokenizer } from 'gptvq/model'
import { InferenceSession, Tensor } from 'onnxruntime-node'

const folder = mkdtempSync(join(tmpdir(), 'gptvq-onnx-'))
const model = 'examples/models/tiny-llama'
await exportOnnx({ model, output: join(folder, 'tiny'), weights: 'dense16' })
const session = await InferenceSession.create(join(folder, 'tiny', 'onnx', 'model.onnx'))

const int64 = (values: number[]) =>
  new Tensor('int64', BigInt64Array.from(values, BigInt), [1, values.length])
const upTo = (end: number, start = 0) => Array.from({ length: end - start }, (_, i) => start + i)

// keys and values of the tokens so far, at first of none: what a call gives as "present" is the next one's "past_key_values"
let cache: Record<string, Tensor> = {}
for (const input of session.inputMetadata) {
  if (!input.isTensor || !input.name.startsWith('past_key_values.')) continue
  const [, heads, , width] = input.shape
  cache[input.name] = new Tensor('float32', [], [1, Number(heads), 0, Number(width)])
}

const tokenizer = await loadTokenizer(model)
const tokens = [...tokenizer.encode('The king')]
for (let past = 0, end = tokens.length; end < 20; past = end, end++) {
  const { logits, ...present } = await session.run({
    input_ids: int64(tokens.slice(past)),
    position_ids: int64(upTo(end, past)),
    attention_mask: int64(upTo(end).map(() => 1)),
    ...cache,
  })
  const last = (logits.data as Float32Array).subarray(-logits.dims[2])
  tokens.push(last.indexOf(last.reduce((most, value) => Math.max(most, value))))
  cache = Object.fromEntries(
    Object.entries(present).map(([name, value]) => [name.replace('present', 'past_key_values'), value]),
  )
}
console.log(tokenizer.decode(Int32Array.from(tokens)))
await session.release()
rmSync(folder, { recursive: true })
