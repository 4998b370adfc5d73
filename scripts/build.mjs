// Compiles the kernels, then src into dist, from nothing.
import { execFileSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc')
const node = (...args) => execFileSync(process.execPath, args, { cwd: root, stdio: 'inherit' })

node('scripts/build-kernels.mjs')
rmSync(join(root, 'dist'), { recursive: true, force: true })
node(tsc, '-p', 'tsconfig.build.json')
