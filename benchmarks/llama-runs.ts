import { rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Written } from './generate-runs.js'
import { writeRandomGguf } from './random-gguf.js'
import type { ModelSizes } from './random-model.js'

/** What is used of node-llama-cpp. */
interface LlamaModule {
  getLlama(options: object): Promise<{ loadModel(options: object): Promise<LlamaModel> }>
}
interface LlamaModel {
  createContext(options: object): Promise<LlamaContext>
  dispose(): Promise<void>
}
interface LlamaContext {
  getSequence(): LlamaSequence
  dispose(): Promise<void>
}
interface LlamaSequence {
  clearHistory(): Promise<void>
  evaluateWithoutGeneratingNewTokens(tokens: number[]): Promise<void>
  evaluate(tokens: number[], options: object): AsyncIterable<number>
}

/** A model in llama.cpp. */
export interface LlamaRuns {
  /** Writes on behind a prompt, from the start, and says how long both took. */
  write(prompt: number[], count: number): Promise<Written>
  close(): Promise<void>
}

/** node-llama-cpp in the folder that `GPTVQ_LLAMA_CPP` names; undefined where that is not set. */
export async function importLlama(): Promise<LlamaModule | undefined> {
  const folder = process.env.GPTVQ_LLAMA_CPP
  if (!folder) return undefined
  return import(pathToFileURL(createRequire(join(folder, 'package.json')).resolve('node-llama-cpp')).href)
}

/** Models of random weights of `type`, one for each number of threads. */
export async function openLlama(
  { getLlama }: LlamaModule,
  sizes: ModelSizes,
  [type, headType]: readonly [string, string],
  threads: number,
): Promise<LlamaRuns> {
  const path = join(tmpdir(), `gptvq-bench-${process.pid}-${type}-${threads}.gguf`)
  await writeRandomGguf(path, sizes, type, headType)
  const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error', maxThreads: threads })
  const model = await llama.loadModel({ modelPath: path, useMmap: false })
  await rm(path)
  const context = await model.createContext({
    contextSize: 512,
    batchSize: 512,
    threads,
    flashAttention: false,
  })
  const sequence = context.getSequence()
  return {
    async write(prompt, count) {
      await sequence.clearHistory()
      const start = performance.now()
      await sequence.evaluateWithoutGeneratingNewTokens(prompt)
      const begun = performance.now()
      let written = 0
      for await (const _ of sequence.evaluate([prompt[0]], { temperature: 0, yieldEogToken: true })) {
        if (++written === count) break
      }
      const end = performance.now()
      return { promptSeconds: (begun - start) / 1e3, tokenSeconds: (end - begun) / 1e3 / written }
    },
    async close() {
      await context.dispose()
      await model.dispose()
    },
  }
}
