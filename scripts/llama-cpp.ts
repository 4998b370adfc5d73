/**
 * Runs GGUF files in llama.cpp and holds them against ours: log-probabilities of every position, the token ranked first,
 * token ids of a text, and the tokens that both write on, the likeliest each time. node-llama-cpp is large, so it is installed apart and named:
 *
 *     mkdir /tmp/llama && cd /tmp/llama && npm init -y && npm install node-llama-cpp@3.21.1 --ignore-scripts
 *     npx tsx scripts/llama-cpp.ts --runtime /tmp/llama [--text TEXT | --tokens 3,1,4] [--greedy 32] FILE.gguf ...
 *
 * Keys and values are kept in float32 there; what is left are the roundings of llama.cpp's own products.
 */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { openGenerator } from '../src/generate/open-generator.js'
import { startEngine } from '../src/model/ops/engine.js'
import { forwardLogits } from '../src/model/passes/forward-logits.js'
import { loadTokenizer } from '../src/model/tokenizer.js'
import { openModel } from '../src/pipeline/folders/open-model.js'

/** What is used of node-llama-cpp. */
interface LlamaModule {
  getLlama(options: object): Promise<{ loadModel(options: object): Promise<LlamaModel> }>
}

interface LlamaModel {
  tokenize(text: string, specialTokens: boolean): number[]
  createContext(options: object): Promise<{ getSequence(): Sequence }>
  dispose(): Promise<void>
}

interface Sequence {
  clearHistory(): Promise<void>
  evaluate(tokens: readonly number[], options: object): AsyncIterable<number>
  controlledEvaluate(
    input: readonly unknown[],
  ): Promise<({ next: { probabilities?: Map<number, number> } } | undefined)[]>
}

const { values, positionals } = parseArgs({
  options: {
    runtime: { type: 'string' },
    text: {
      type: 'string',
      default: 'The capital of France is Paris. In 2024, 1234 people said: "it’s fine".\n',
    },
    tokens: { type: 'string' },
    greedy: { type: 'string', default: '32' },
  },
  allowPositionals: true,
})

const greedy = Number(values.greedy)
const { getLlama }: LlamaModule = await import(runtimeUrl(values.runtime))
const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error', maxThreads: 1 })
await startEngine('wasm')
for (const file of positionals) {
  try {
    console.log(JSON.stringify({ file, ...(await compare(file)) }))
  } catch (error) {
    console.log(JSON.stringify({ file, failed: String(error).slice(0, 300) }))
    process.exitCode = 1
  }
}
process.exit()

function runtimeUrl(folder: string | undefined): string {
  if (folder === undefined) return 'node-llama-cpp'
  return pathToFileURL(createRequire(join(folder, 'package.json')).resolve('node-llama-cpp')).href
}

async function compare(file: string): Promise<object> {
  const theirs = await llama.loadModel({ modelPath: file })
  const ours = await openModel(file)
  try {
    const tokens = values.tokens === undefined ? await textTokens(file, theirs) : listed(values.tokens)
    const context = await theirs.createContext({
      contextSize: Math.max(64, tokens.ids.length + greedy + 8),
      flashAttention: false,
      experimentalKvCacheKeyType: 'F32',
      experimentalKvCacheValueType: 'F32',
    })
    const asked = tokens.ids.map((token) => [
      token,
      { generateNext: { probabilities: true, options: { temperature: 1, topK: 0, topP: 1, minP: 0 } } },
    ])
    const sequence = context.getSequence()
    const found = await sequence.controlledEvaluate(asked)
    const logits = await forwardLogits(ours.source, ours.config, Int32Array.from(tokens.ids), 1)
    const probabilities = found.map((output) => output?.next.probabilities ?? new Map<number, number>())
    return {
      ...tokens.report,
      tokens: tokens.ids.length,
      ...differences(probabilities, logits, ours.config.vocabSize),
      greedy: await sameGreedy(file, sequence, tokens.ids),
    }
  } finally {
    await ours.close()
    await theirs.dispose()
  }
}

/** How many tokens that llama.cpp writes behind the text we write too, before the first other one. */
async function sameGreedy(file: string, sequence: Sequence, ids: readonly number[]): Promise<string> {
  await sequence.clearHistory()
  const theirs: number[] = []
  for await (const token of sequence.evaluate(ids, { temperature: 0 })) {
    if (theirs.push(token) === greedy) break
  }
  const generator = await openGenerator({ model: file, context: ids.length + greedy, threads: 1 })
  const own: number[] = []
  for await (const { token } of generator.generate({ prompt: ids, temperature: 0, maxTokens: greedy }))
    own.push(token)
  await generator.close()
  const parting = theirs.findIndex((token, i) => token !== own[i])
  return `${parting < 0 ? theirs.length : parting} of ${theirs.length}`
}

async function textTokens(file: string, theirs: LlamaModel) {
  const own = [...(await loadTokenizer(file)).encode(values.text)]
  const other = theirs.tokenize(values.text, true)
  return { ids: own, report: { sameTokens: own.join() === other.join() } }
}

function listed(text: string) {
  return { ids: text.split(',').map(Number), report: {} }
}

/** The largest and the mean difference of log-probabilities above 1e-6, and how often both rank the same token first. */
function differences(found: readonly Map<number, number>[], logits: Float32Array, vocabSize: number) {
  let largest = 0
  let sum = 0
  let count = 0
  let same = 0
  for (const [position, probabilities] of found.entries()) {
    const row = logits.subarray(position * vocabSize, (position + 1) * vocabSize)
    const logs = logSoftmax(row)
    for (const [token, probability] of probabilities) {
      if (probability < 1e-6) continue
      const difference = Math.abs(Math.log(probability) - logs[token])
      largest = Math.max(largest, difference)
      sum += difference
      count++
    }
    const [first] = [...probabilities].sort((a, b) => b[1] - a[1])[0]
    if (row[first] === row.reduce((most, one) => Math.max(most, one), Number.NEGATIVE_INFINITY)) same++
  }
  return { largest, mean: sum / count, sameFirst: `${same} of ${found.length}` }
}

function logSoftmax(row: Float32Array): Float64Array {
  let most = Number.NEGATIVE_INFINITY
  for (const value of row) most = Math.max(most, value)
  let total = 0
  for (const value of row) total += Math.exp(value - most)
  return Float64Array.from(row, (value) => value - most - Math.log(total))
}
