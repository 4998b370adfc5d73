// Compiles src/kernels/assembly with and without relaxed SIMD, and writes both modules as base64 text into
// src/kernels/wasm/runtime/binaries.ts, so that Node, bundlers and browsers load them alike; then once more for the kernels of
// the forward pass (forward-binaries.ts), which pages do without. Does nothing when they are current.
import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const source = join(root, 'src/kernels/assembly')
const target = join(root, 'src/kernels/wasm/runtime')

const digest = createHash('sha256')
  .update(readFileSync(fileURLToPath(import.meta.url)))
  .update(readFileSync(join(root, 'node_modules/assemblyscript/package.json')))
const sources = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter((name) =>
  name.endsWith('.ts'),
)
for (const file of sources.sort()) digest.update(file).update(readFileSync(join(source, file)))
const stamp = `// made by scripts/build-kernels.mjs from sources with SHA-256 ${digest.digest('hex')}`

await write('binaries.ts', 0)
await write('forward-binaries.ts', 1)

/** `forwardPass` is the constant FORWARD_PASS of index.ts. */
async function write(name, forwardPass) {
  const file = join(target, name)
  if (existsSync(file) && readFileSync(file, 'utf8').startsWith(stamp)) return
  const modules = {
    baseline: await compile('simd,threads', forwardPass),
    relaxed: await compile('simd,relaxed-simd,threads', forwardPass),
  }
  const lines = Object.entries(modules).map(
    ([build, bytes]) => `export const ${build}: string =\n  '${bytes.toString('base64')}'\n`,
  )
  writeFileSync(file, `${stamp}\n${lines.join('\n')}`)
  const sizes = Object.entries(modules).map(([build, bytes]) => `${build} ${bytes.length} bytes`)
  console.log(`${name} compiled: ${sizes.join(', ')}`)
}

async function compile(features, forwardPass) {
  const { default: asc } = await import('assemblyscript/asc')
  const folder = mkdtempSync(join(tmpdir(), 'gptvq-kernels-'))
  try {
    const outFile = join(folder, 'kernels.wasm')
    const flags = [
      join(source, 'index.ts'),
      ...['-O3', '--noAssert', '--uncheckedBehavior', 'always', '--runtime', 'stub', '--enable', features],
      ...['--use', `FORWARD_PASS=${forwardPass}`],
      // the first page belongs to the job board of job.ts
      ...['--importMemory', '--sharedMemory', '--initialMemory', '2', '--maximumMemory', '32768'],
      ...['--memoryBase', '65536', '--outFile', outFile],
    ]
    const { error, stderr } = await asc.main(flags)
    if (error) throw new Error(`the kernels do not compile\n${stderr}`, { cause: error })
    return readFileSync(outFile)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
