/**
 * What an exported model costs in onnxruntime: size on disk, time to load, memory after that and at most, tokens per second
 * one by one, and how far its logits are from ours at most, as a share of their range; in Node (onnxruntime-node) and on WebAssembly (onnxruntime-web, in Node too), one thread each. Seconds are those
 * of the processor, so that other work on the machine does not count.
 *
 * `npm run bench:onnx -- MODEL [--forms packed,nbits,dense16,dense32] [--tokens 8]`; for people: a Markdown table.
 */
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import type { InferenceSession } from 'onnxruntime-common'
import { exportOnnx } from '../../src/export/onnx/export-onnx.js'
import { type OnnxWeights, onnxWeights } from '../../src/export/onnx/weights/weights.js'
import { startEngine } from '../../src/model/ops/engine.js'
import { forwardLogits } from '../../src/model/passes/forward-logits.js'
import { openModel } from '../../src/pipeline/folders/open-model.js'

interface Measured {
  readonly loadSeconds: number
  readonly after: number
  readonly peak: number
  readonly perSecond: number
  readonly worstLogit: number
}

/**
 * Session options that rows of the table are measured with, and what they are called there. `returned`: no arena, and on
 * Linux an allocator that keeps nothing.
 */
const settings = {
  plain: '',
  returned: ', enableCpuMemArena: false',
  decoded: ", graphOptimizationLevel: 'disabled'",
} as const

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    forms: { type: 'string', default: onnxWeights.join(',') },
    tokens: { type: 'string', default: '8' },
    run: { type: 'string' },
    source: { type: 'string' },
    setting: { type: 'string', default: 'plain' },
  },
})
const [model] = positionals
if (model === undefined) throw new Error('give a model folder: npm run bench:onnx -- MODEL')
if (values.run === undefined) await compare(model)
else console.log(JSON.stringify(await measure(model, values.run, values.source ?? '')))

async function compare(model: string): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), 'gptvq-bench-onnx-'))
  const rows = [
    '| weights | file, MB | runtime | load, s | memory after, MB | at most, MB | tokens/s | logits |',
  ]
  rows.push('| --- | --- | --- | --- | --- | --- | --- | --- |')
  try {
    for (const form of values.forms.split(',') as OnnxWeights[]) {
      const output = join(root, form)
      const { modelBytes } = await exportOnnx({ model, output, weights: form })
      for (const [runtime, setting] of runsOf(form)) {
        const { loadSeconds, after, peak, perSecond, worstLogit } = await inProcess(
          output,
          runtime,
          setting,
          model,
        )
        const cells = [
          form + settings[setting],
          (modelBytes / 1e6).toFixed(1),
          runtime === 'node' ? 'onnxruntime-node' : 'onnxruntime-web, wasm',
          loadSeconds.toFixed(1),
          after.toFixed(0),
          peak.toFixed(0),
          perSecond.toPrecision(2),
          worstLogit.toExponential(0),
        ]
        rows.push(`| ${cells.join(' | ')} |`)
        console.error(rows.at(-1))
      }
      await rm(output, { recursive: true })
    }
    console.log(rows.join('\n'))
  } finally {
    await rm(root, { recursive: true, force: true })
  }
}

type Setting = keyof typeof settings

function runsOf(form: OnnxWeights): [runtime: 'node' | 'web', setting: Setting][] {
  const both: ReturnType<typeof runsOf> = [
    ['node', 'plain'],
    ['web', 'plain'],
  ]
  return form === 'packed' ? [...both, ['node', 'returned'], ['node', 'decoded']] : both
}

/** In a process of its own: only there memory is that of one model. */
async function inProcess(
  folder: string,
  runtime: string,
  setting: Setting,
  source: string,
): Promise<Measured> {
  const argv = ['--import', 'tsx', import.meta.filename, folder, '--run', runtime, '--setting', setting]
  const more = ['--tokens', values.tokens, '--source', source]
  const env = { ...process.env, ...(setting === 'returned' && { MALLOC_MMAP_THRESHOLD_: '65536' }) }
  const { stdout } = await promisify(execFile)(process.execPath, [...argv, ...more], { env })
  return JSON.parse(stdout)
}

async function measure(folder: string, runtime: string, source: string): Promise<Measured> {
  const ort = runtime === 'node' ? await import('onnxruntime-node') : await import('onnxruntime-web')
  ort.env.logLevel = 'error'
  if (runtime === 'web') ort.env.wasm.numThreads = 1
  const file = join(folder, 'onnx', 'model.onnx')
  const before = megabytes(process.memoryUsage().rss)
  const start = cpuSeconds()
  const options: InferenceSession.SessionOptions = {
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    enableCpuMemArena: values.setting !== 'returned',
    graphOptimizationLevel: values.setting === 'decoded' ? 'disabled' : 'all',
  }
  const session =
    runtime === 'node'
      ? await ort.InferenceSession.create(file, options)
      : await ort.InferenceSession.create(await readFile(file), options)
  const loadSeconds = cpuSeconds() - start
  const after = megabytes(process.memoryUsage().rss) - before
  const perSecond = await speed(session, ort.Tensor)
  const peak = megabytes(1024 * process.resourceUsage().maxRSS) - before
  const worstLogit = await worstShare(session, ort.Tensor, source)
  return { loadSeconds, after, peak, perSecond, worstLogit }
}

/** Of 16 tokens at once. */
async function worstShare(session: InferenceSession, Tensor: TensorClass, source: string): Promise<number> {
  const opened = await openModel(source)
  await startEngine('wasm')
  const tokens = Int32Array.from({ length: 16 }, (_, i) => (i * 7919 + 1) % opened.config.vocabSize)
  const ours = await forwardLogits(opened.source, opened.config, tokens, 1)
  await opened.close()
  const int64 = (list: readonly number[]) =>
    new Tensor('int64', BigInt64Array.from(list, BigInt), [1, list.length])
  const feeds = {
    input_ids: int64([...tokens]),
    position_ids: int64([...tokens.keys()]),
    attention_mask: int64(new Array(tokens.length).fill(1)),
    ...emptyCache(session, Tensor),
  }
  const { logits } = await session.run(feeds as Parameters<typeof session.run>[0])
  const theirs = logits.data as Float32Array
  let [least, most, worst] = [ours[0], ours[0], 0]
  for (const [i, logit] of ours.entries()) {
    least = Math.min(least, logit)
    most = Math.max(most, logit)
    worst = Math.max(worst, Math.abs(logit - theirs[i]))
  }
  return worst / (most - least)
}

type TensorClass = typeof import('onnxruntime-common').Tensor

/** Keys and values of no tokens. */
function emptyCache(session: InferenceSession, Tensor: TensorClass): Record<string, unknown> {
  const cache: Record<string, unknown> = {}
  for (const input of session.inputMetadata) {
    if (!input.isTensor || !input.name.startsWith('past_key_values.')) continue
    const [, heads, , width] = input.shape
    cache[input.name] = new Tensor('float32', new Float32Array(0), [1, Number(heads), 0, Number(width)])
  }
  return cache
}

async function speed(session: InferenceSession, Tensor: TensorClass): Promise<number> {
  const count = Number(values.tokens)
  let cache = emptyCache(session, Tensor)
  let start = 0
  for (let at = 0; at <= count; at++) {
    const int64 = (list: bigint[]) => new Tensor('int64', BigInt64Array.from(list), [1, list.length])
    const mask = Array.from({ length: at + 1 }, () => 1n)
    const feeds = { input_ids: int64([1n]), position_ids: int64([BigInt(at)]), attention_mask: int64(mask) }
    const found = await session.run({ ...feeds, ...cache } as Parameters<typeof session.run>[0])
    cache = Object.fromEntries(
      Object.entries(found).map(([name, value]) => [name.replace('present', 'past_key_values'), value]),
    )
    delete cache.logits
    // the first run prepares memory
    if (at === 0) start = cpuSeconds()
  }
  return count / (cpuSeconds() - start)
}

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

function megabytes(bytes: number): number {
  return bytes / 1e6
}
