/**
 * What an exported model costs in onnxruntime: size on disk, time to load, memory after that and at most, tokens per second
 * one by one; in Node (onnxruntime-node) and on WebAssembly (onnxruntime-web, in Node too), one thread each. Seconds are those
 * of the processor, so that other work on the machine does not count.
 *
 * `npm run bench:onnx -- MODEL [--forms packed,nbits,dense16,dense32] [--tokens 8]`; for people: a Markdown table.
 */
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { exportOnnx, type OnnxWeights, onnxWeights } from 'gptvq/export'
import type { InferenceSession } from 'onnxruntime-common'

interface Measured {
  readonly loadSeconds: number
  readonly after: number
  readonly peak: number
  readonly perSecond: number
}

/** Session options that rows of the table are measured with, and what they are called there. */
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
    setting: { type: 'string', default: 'plain' },
  },
})
const [model] = positionals
if (model === undefined) throw new Error('give a model folder: npm run bench:onnx -- MODEL')
if (values.run === undefined) await compare(model)
else console.log(JSON.stringify(await measure(model, values.run)))

async function compare(model: string): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), 'gptvq-bench-onnx-'))
  const rows = ['| weights | file, MB | runtime | load, s | memory after, MB | at most, MB | tokens/s |']
  rows.push('| --- | --- | --- | --- | --- | --- | --- |')
  try {
    for (const form of values.forms.split(',') as OnnxWeights[]) {
      const output = join(root, form)
      const { modelBytes } = await exportOnnx({ model, output, weights: form })
      for (const [runtime, setting] of runsOf(form)) {
        const { loadSeconds, after, peak, perSecond } = await inProcess(output, runtime, setting)
        const cells = [
          form + settings[setting],
          (modelBytes / 1e6).toFixed(1),
          runtime === 'node' ? 'onnxruntime-node' : 'onnxruntime-web, wasm',
          loadSeconds.toFixed(1),
          after.toFixed(0),
          peak.toFixed(0),
          perSecond.toPrecision(2),
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
async function inProcess(folder: string, runtime: string, setting: Setting): Promise<Measured> {
  const argv = ['--import', 'tsx', import.meta.filename, folder, '--run', runtime, '--setting', setting]
  const { stdout } = await promisify(execFile)(process.execPath, [...argv, '--tokens', values.tokens])
  return JSON.parse(stdout)
}

async function measure(folder: string, runtime: string): Promise<Measured> {
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
  return { loadSeconds, after, peak: process.resourceUsage().maxRSS / 1e3 - before, perSecond }
}

async function speed(
  session: InferenceSession,
  Tensor: typeof import('onnxruntime-common').Tensor,
): Promise<number> {
  const count = Number(values.tokens)
  let cache: Record<string, unknown> = {}
  for (const input of session.inputMetadata) {
    if (!input.isTensor || !input.name.startsWith('past_key_values.')) continue
    const [, heads, , width] = input.shape
    cache[input.name] = new Tensor('float32', new Float32Array(0), [1, Number(heads), 0, Number(width)])
  }
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
