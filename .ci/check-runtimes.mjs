// Runs the built package under Bun and Deno, from npm, beside Node: a layer on one thread and on three, the same bytes
// each time, and a model from the command line.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '..')
const folder = mkdtempSync(join(tmpdir(), 'gptvq-runtimes-'))
const run = ([command, ...args], threads) =>
  execFileSync(command, args, {
    cwd: folder,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 180_000,
    env: { ...process.env, GPTVQ_THREADS: String(threads) },
  })
const npm = (...args) => execFileSync('npm', args, { cwd: folder, encoding: 'utf8', stdio: 'pipe' })

try {
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'app', private: true, type: 'module' }))
  npm('install', '--no-audit', '--no-fund', 'bun@1.4.5', 'deno@2.9.6')
  mkdirSync(join(folder, 'node_modules'), { recursive: true })
  symlinkSync(root, join(folder, 'node_modules', 'gptvq'), 'junction')
  writeFileSync(
    join(folder, 'layer.mjs'),
    `import { HessianAccumulator, matrix, packLayer, quantizeLayer } from 'gptvq'
import { createHash } from 'node:crypto'
const random = (rows, cols) =>
  matrix(rows, cols, Float32Array.from({ length: rows * cols }, (_, i) => ((i * 7919 + 13) % 10007) / 10007 - 0.5))
const inputs = new HessianAccumulator(256)
inputs.add(random(512, 256))
const packed = packLayer(await quantizeLayer(random(256, 256), inputs.hessian(), { bits: 2 }))
const digest = createHash('sha256')
for (const part of Object.values(packed)) if (ArrayBuffer.isView(part)) digest.update(new Uint8Array(part.buffer, part.byteOffset, part.byteLength))
console.log(digest.digest('hex'))
`,
  )
  const bin = (name) => join(folder, 'node_modules', '.bin', name)
  const runtimes = { Node: [process.execPath], Bun: [bin('bun')], Deno: [bin('deno'), 'run', '-A'] }
  for (const [name, start] of Object.entries(runtimes)) {
    const [one, three] = [1, 3].map((threads) => run([...start, 'layer.mjs'], threads).trim())
    if (!/^[0-9a-f]{64}$/.test(one)) throw new Error(`${name} printed ${one}, expected a digest`)
    if (one !== three) throw new Error(`${name}: another layer on three threads than on one`)
    const cli = [...start, join(root, 'dist', 'cli', 'main.js')]
    const model = join(root, 'examples', 'models', 'tiny-llama')
    const quantized = join(folder, name)
    const text = ['--calibration', join(root, 'README.md'), '--sequences', '2', '--sequence-length', '64']
    run([...cli, 'quantize', model, '--out', quantized, '--bits', '2', ...text], 2)
    const { weights } = JSON.parse(run([...cli, 'inspect', quantized, '--json'], 2))
    if (!weights?.length) throw new Error(`${name}: inspect lists no weights`)
    console.log(
      `${name}: a layer with the same bytes on one thread and on three, a model of ${weights.length} weights`,
    )
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}
