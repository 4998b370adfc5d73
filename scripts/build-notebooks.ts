/**
 * Makes examples/notebooks/NAME.ipynb of NAME.ts: cuts it into cells, runs them in Jupyter and stores their outputs.
 *
 *     --link   only lets tslab find the types of this package by its name
 *     --check  writes nothing: the stored notebooks must be those of the sources, run without an error and say the same
 *
 * Needs `npm run build`, jupyter-nbconvert and the kernel tslab; `.ci/notebooks` installs both and calls this.
 */
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { complaints, differences, type Notebook, notebookOf, withOutputs } from './notebook-cells.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const folder = join(root, 'examples/notebooks')
const check = process.argv.includes('--check')

linkTypes()
if (!process.argv.includes('--link')) {
  mkdirSync(join(root, 'out/notebooks'), { recursive: true })
  for (const file of readdirSync(folder).sort()) {
    const name = /^(\d\d-.*)\.ts$/.exec(file)?.[1]
    if (name !== undefined) build(name)
  }
}

/** tslab looks types up among the folders of node_modules, where this package is in anyone's project but its own. */
function linkTypes(): void {
  const target = join(folder, 'node_modules/gptvq')
  rmSync(target, { recursive: true, force: true })
  mkdirSync(target, { recursive: true })
  copyFileSync(join(root, 'package.json'), join(target, 'package.json'))
  symlinkSync(join(root, 'dist'), join(target, 'dist'), 'junction')
}

function build(name: string): void {
  const path = join(folder, `${name}.ipynb`)
  const started = performance.now()
  const notebook = notebookOf(readFileSync(join(folder, `${name}.ts`), 'utf8'), `${name}.ts`)
  const fresh = withOutputs(notebook, execute(notebook, name))
  refuse(name, complaints(fresh))
  if (check) {
    const found = differences(JSON.parse(readFileSync(path, 'utf8')), fresh)
    refuse(name, found.length > 0 ? [...found, 'To store what it says now: npm run notebooks'] : [])
  } else writeFileSync(path, `${JSON.stringify(fresh, null, 1)}\n`)
  const seconds = Math.round((performance.now() - started) / 1000)
  console.log(`${name}: ${notebook.cells.length} cells in ${seconds} s`)
}

/** Runs the cells from top to bottom, up to the first that fails. */
function execute(notebook: Notebook, name: string): Notebook {
  const { status, stdout, stderr, error } = nbconvert(notebook)
  if (error) refuse(name, [`jupyter-nbconvert cannot be run (${error.message}); .ci/notebooks installs it`])
  if (status !== 0) {
    // tslab says on the cell's stderr what was wrong, and nbconvert drops that when it stops
    const complete = nbconvert(notebook, '--allow-errors')
    if (complete.status === 0) refuse(name, complaints(JSON.parse(complete.stdout)))
    refuse(name, [`jupyter-nbconvert ended with ${status}:\n${stderr}`])
  }
  return JSON.parse(stdout)
}

function nbconvert(notebook: Notebook, ...flags: readonly string[]) {
  const limits = ['--ExecutePreprocessor.timeout=300', '--ExecutePreprocessor.startup_timeout=180']
  const argv = ['--to', 'notebook', '--execute', '--stdin', '--stdout', ...limits, ...flags]
  const input = JSON.stringify(notebook)
  return spawnSync('jupyter-nbconvert', argv, { cwd: folder, encoding: 'utf8', input, maxBuffer: 2 ** 28 })
}

function refuse(name: string, reasons: readonly string[]): void {
  if (reasons.length === 0) return
  console.error(`examples/notebooks/${name}: ${reasons.join('\n')}`)
  process.exit(1)
}
