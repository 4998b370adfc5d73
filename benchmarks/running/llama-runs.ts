import { rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { writeRandomGguf } from '../common/random-gguf.js'
import type { ModelSizes } from '../common/random-model.js'
import { startWatch, type Written } from './generate-runs.js'

/** What is used of node-llama-cpp. */
interface LlamaModule {
  getLlama(options: object): Promise<Llama>
}
interface Llama {
  loadModel(options: object): Promise<LlamaModel>
}
interface LlamaModel {
  createContext(options: object): Promise<LlamaContext>
  dispose(): Promise<void>
}
interface LlamaContext {
  getSequence(): LlamaSequence
}
interface LlamaSequence {
  clearHistory(): Promise<void>
  evaluateWithoutGeneratingNewTokens(tokens: number[]): Promise<void>
  evaluate(tokens: number[], options: object): AsyncIterable<number>
}

/** Writes with llama.cpp, from the start, behind a prompt. */
type LlamaWriter = (prompt: number[], count: number) => Promise<Written>

/** A model in llama.cpp. */
export interface LlamaRuns {
  /** A writer for each number of threads that was asked for. */
  readonly writers: readonly LlamaWriter[]
  close(): Promise<void>
}

/** node-llama-cpp in the folder that `GPTVQ_LLAMA_CPP` names; undefined where that is not set. */
export async function startLlama(threads: number): Promise<Llama | undefined> {
  const folder = process.env.GPTVQ_LLAMA_CPP
  if (!folder) return undefined
  const file = createRequire(join(folder, 'package.json')).resolve('node-llama-cpp')
  const { getLlama }: LlamaModule = await import(pathToFileURL(file).href)
  return getLlama({ gpu: false, build: 'never', logLevel: 'error', maxThreads: threads })
}

/** A model of random weights of `type`, its head of `headType`. */
export async function openLlama(
  llama: Llama,
  sizes: ModelSizes,
  [type, headType]: readonly [string, string],
  threadCounts: readonly number[],
): Promise<LlamaRuns> {
  const path = join(tmpdir(), `gptvq-bench-${process.pid}-${type}.gguf`)
  await writeRandomGguf(path, sizes, type, headType)
  const model = await llama.loadModel({ modelPath: path, useMmap: false })
  await rm(path)
  const writers: LlamaWriter[] = []
  for (const threads of threadCounts) {
    const context = await model.createContext({ contextSize: 256, threads, flashAttention: false })
    writers.push(writerOf(context.getSequence()))
  }
  return { writers, close: () => model.dispose() }
}

function writerOf(sequence: LlamaSequence): LlamaWriter {
  return async (prompt, count) => {
    await sequence.clearHistory()
    const watch = startWatch()
    await sequence.evaluateWithoutGeneratingNewTokens(prompt)
    const begun = watch()
    let written = 0
    const start = startWatch()
    for await (const _ of sequence.evaluate([prompt[0]], { temperature: 0, yieldEogToken: true })) {
      if (++written === count) break
    }
    const { seconds, busy } = start()
    return { promptSeconds: begun.seconds, tokenSeconds: seconds / written, tokenBusy: busy / written }
  }
}
