import { env, pipeline } from '@huggingface/transformers'

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
