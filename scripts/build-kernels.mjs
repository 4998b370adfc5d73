// Compiles src/kernels/assembly twice, with and without relaxed SIMD, and writes both modules as base64 text into
// src/kernels/wasm/binaries.ts, so that Node, bundlers and browsers load them alike. Does nothing when they are current.
import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const source = join(root, 'src/kernels/assembly')
const target = join(root, 'src/kernels/wasm/binaries.ts')

const digest = createHash('sha256')
  .update(readFileSync(fileURLToPath(import.meta.url)))
  .update(readFileSync(join(root, 'node_modules/assemblyscript/package.json')))
for (const file of readdirSync(source).sort()) digest.update(file).update(readFileSync(join(source, file)))
const stamp = `// made by scripts/build-kernels.mjs from sources with SHA-256 ${digest.digest('hex')}`

if (!existsSync(target) || !readFileSync(target, 'utf8').startsWith(stamp)) {
  const modules = {
    baseline: await compile('simd,threads'),
    relaxed: await compile('simd,relaxed-simd,threads'),
  }
  const lines = Object.entries(modules).map(
    ([name, bytes]) => `export const ${name} =\n  '${bytes.toString('base64')}'\n`,
  )
  writeFileSync(target, `${stamp}\n${lines.join('\n')}`)
  const sizes = Object.entries(modules).map(([name, bytes]) => `${name} ${bytes.length} bytes`)
  console.log(`kernels compiled: ${sizes.join(', ')}`)
}

async function compile(features) {
  const { default: asc } = await import('assemblyscript/asc')
  const folder = mkdtempSync(join(tmpdir(), 'gptvq-kernels-'))
  try {
    const outFile = join(folder, 'kernels.wasm')
    const flags = [
      join(source, 'index.ts'),
      ...['-O3', '--noAssert', '--uncheckedBehavior', 'always', '--runtime', 'stub', '--enable', features],
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
