import { execFile } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'

const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** What an example prints. */
async function run(name: string): Promise<string> {
  const argv = ['--import', 'tsx', `examples/${name}.ts`]
  return (await promisify(execFile)(process.execPath, argv, { cwd: root })).stdout
}

/** The numbers of all groups of a pattern, line by line. */
function figures(text: string, pattern: RegExp): number[][] {
  return Array.from(text.matchAll(pattern), ([, ...groups]) => groups.map(Number))
}

function isRising(values: readonly number[]): boolean {
  return values.every((value, i) => i === 0 || value > values[i - 1])
}

it('examples/layer.ts ranks GPTVQ over GPTQ over RTN at no more bits', async () => {
  const results = new Map(
    Array.from(
      (await run('layer')).matchAll(/^(\w+) +([\d.]+) bits per value +([\d.]+) dB$/gm),
      ([, name, bits, snr]) => [name, { bits: Number(bits), snr: Number(snr) }],
    ),
  )
  expect([...results.keys()]).toEqual(['RTN', 'GPTQ', 'GPTVQ'])
  const [rtn, gptq, gptvq] = results.values()
  expect(gptq.snr).toBeGreaterThan(rtn.snr)
  expect(gptvq.snr).toBeGreaterThan(gptq.snr)
  expect(gptvq.bits).toBeLessThanOrEqual(gptq.bits)
})

it('examples/activations.ts: with its own activations a layer errs less on activations that it has not seen', async () => {
  const text = await run('activations')
  expect(figures(text, /^calibrated on (\d+) rows of activations, scored on (\d+) others$/gm)).toEqual([
    [2048, 512],
  ])
  const [[alike], [own], ...rest] = figures(text, /relative error ([\d.]+)/g)
  expect(rest).toEqual([])
  expect(own).toBeLessThan(0.7 * alike)
})

it('examples/image-colours.ts: more colours are closer to the image, and each file is a whole picture', async () => {
  const text = await run('image-colours')
  const rows = figures(text, /^ *(\d+) colours +([\d.]+) bits per pixel +([\d.]+) dB/gm)
  expect(rows.map(([k]) => k)).toEqual([2, 4, 16, 64])
  for (const [k, bits] of rows) expect(bits).toBeCloseTo(Math.log2(k) + (24 * k) / (96 * 64), 2)
  expect(isRising(rows.map(([, , snr]) => snr))).toBe(true)
  for (const [k] of rows) {
    const file = readFileSync(join(root, `out/colours-${k}.ppm`))
    const head = 'P6 96 64 255\n'
    expect(file.toString('latin1', 0, head.length)).toBe(head)
    expect(file.length).toBe(head.length + 96 * 64 * 3)
    const colours = new Set<number>()
    for (let at = head.length; at < file.length; at += 3) colours.add(file.readUIntBE(at, 3))
    expect(colours.size).toBeGreaterThan(k / 2)
    expect(colours.size).toBeLessThanOrEqual(k)
  }
})

it('examples/embedding-table.ts: the packed bytes are those of the formula, and more bits keep more neighbours', async () => {
  const text = await run('embedding-table')
  expect(figures(text, /a table of (\d+) x (\d+), (\d+) bytes/g)).toEqual([[4096, 256, 4096 * 256 * 2]])
  const rows = figures(text, /(\d+) bytes, ([\d.]+) bits per value: ([\d.]+) dB, (\d+) of 32/g)
  const bytes = [1, 2].map((bits) => (4096 * 256 * bits) / 8 + 2 ** (4 * bits) * 4 * 2 + 2)
  expect(rows.map(([stored]) => stored)).toEqual(bytes)
  for (const [i, [, bits]] of rows.entries()) expect(bits).toBeCloseTo((8 * bytes[i]) / (4096 * 256), 3)
  expect(isRising(rows.map(([, , snr]) => snr))).toBe(true)
  expect(isRising(rows.map(([, , , same]) => same))).toBe(true)
})

it('examples/generate.ts writes the likeliest text, and a different one for each seed', async () => {
  const lines = (await run('generate')).trimEnd().split('\n')
  expect(lines[0]).toMatch(/^likeliest: "\s*\S.*" \((end|length)\)$/)
  const drawn = lines.slice(1).map((line) => /^seed (\d): "(.*)", log-probability -[\d.]+$/.exec(line)!)
  expect(drawn.map(([, seed]) => seed)).toEqual(['1', '2', '3'])
  expect(new Set(drawn.map(([, , text]) => text)).size).toBe(3)
})

it('examples/progress-and-cancel.ts stops halfway, leaves nothing half-written, and finishes when it may', async () => {
  const lines = (await run('progress-and-cancel')).trimEnd().split('\n')
  const bars = lines.map((line) => /^(#*)\.* block \d/.exec(line)?.[1].length).filter((n) => n !== undefined)
  expect(isRising(bars)).toBe(true)
  expect(bars.at(-1)).toBeGreaterThanOrEqual(5)
  expect(bars.at(-1)).toBeLessThan(9)
  const [stopped, progress, finished] = lines.slice(-3)
  expect(stopped).toMatch(/^stopped: ABORTED; out\/progress-and-cancel is as it was$/)
  expect(progress).toMatch(/^#{2,10}$/)
  const [[layers, bits, before, after]] = figures(
    finished,
    /(\d+) layers at ([\d.]+) bits per value, (\d+) kB became (\d+) kB/g,
  )
  expect(layers).toBe(4 * 7)
  expect(bits).toBeLessThanOrEqual(2.125)
  expect(after / before).toBeCloseTo(bits / 16, 2)
  expect(existsSync(join(root, 'out/progress-and-cancel/model.safetensors'))).toBe(true)
  expect(readdirSync(join(root, 'out')).filter((name) => name.includes('partial'))).toEqual([])
})

it('examples/export-gguf.ts: fewer bits make a smaller file and add more error; the file is read back', async () => {
  const text = await run('export-gguf')
  const written = figures(text, /^\w+: (\d+) bytes, added error ([\d.]+)$/gm)
  expect(written).toHaveLength(3)
  expect(isRising(written.map(([bytes]) => -bytes))).toBe(true)
  expect(isRising(written.map(([, error]) => error))).toBe(true)
  expect(text).toMatch(/^LlamaForCausalLM, \d+ tensors, .*q_proj\.weight as Q4_0$/m)
})

it('examples/export-onnx.ts: transformers.js writes on with a model of 4 bits', async () => {
  const text = await run('export-onnx')
  const [[megabytes]] = figures(text, /^onnx\/model\.onnx has ([\d.]+) MB$/gm)
  expect(megabytes).toBeLessThan(5)
  expect(text).toMatch(/generated_text: 'The king .{20,}/)
})

it('examples/onnxruntime.ts: a loop of calls writes on, each with the cache of the one before', async () => {
  expect(await run('onnxruntime')).toMatch(/^The king.{20,}/s)
})
