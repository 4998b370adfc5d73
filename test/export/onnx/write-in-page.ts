import { env, pipeline } from '@huggingface/transformers'

/** Runs in a page: writes with the model of that name, the likeliest token each time. */
export async function writeInPage(name: string, prompt: string, maxTokens: number): Promise<string> {
  Object.assign(env, {
    allowRemoteModels: false,
    allowLocalModels: true,
    localModelPath: `${location.origin}/models/`,
    useBrowserCache: false,
    useWasmCache: false,
  })
  const { wasm } = env.backends.onnx
  if (wasm) Object.assign(wasm, { wasmPaths: `${location.origin}/ort/`, numThreads: 1 })
  const generator = await pipeline('text-generation', name, { device: 'wasm' })
  const [written] = await generator(prompt, { max_new_tokens: maxTokens, do_sample: false })
  await generator.dispose()
  return String((written as { generated_text: unknown }).generated_text)
}
