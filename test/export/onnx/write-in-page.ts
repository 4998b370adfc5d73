import { AutoModelForCausalLM, env, pipeline, Tensor } from '@huggingface/transformers'

declare const location: { readonly origin: string }

/** Has transformers.js take the runtime from the page's own server, and nothing from anywhere else. */
export function preparePage(): void {
  Object.assign(env, { allowRemoteModels: false, useBrowserCache: false, useWasmCache: false })
  const { wasm } = env.backends.onnx
  if (wasm) Object.assign(wasm, { wasmPaths: `${location.origin}/ort/`, numThreads: 1 })
}

/** Runs in a page: writes with the model of that name, the likeliest token each time. */
export async function writeInPage(name: string, prompt: string, maxTokens: number): Promise<string> {
  preparePage()
  env.allowLocalModels = true
  const generator = await pipeline('text-generation', name, { device: 'wasm' })
  const [written] = await generator(prompt, { max_new_tokens: maxTokens, do_sample: false })
  await generator.dispose()
  return String((written as { generated_text: unknown }).generated_text)
}

/** Runs in a page: the logits of a sequence, tokens x vocabSize. */
export async function logitsInPage(name: string, tokens: readonly number[]): Promise<number[]> {
  preparePage()
  env.allowLocalModels = true
  const model = await AutoModelForCausalLM.from_pretrained(name, { device: 'wasm' })
  const int64 = (values: readonly number[]) =>
    new Tensor('int64', BigInt64Array.from(values, BigInt), [1, values.length])
  const input = { input_ids: int64(tokens), attention_mask: int64(tokens.map(() => 1)) }
  const { logits } = (await model(input)) as { logits: Tensor }
  await model.dispose()
  return Array.from(logits.data as Float32Array)
}
