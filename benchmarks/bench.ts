/**
 * The benchmarks: `npm run bench -- [SUITE...] [--quick] [--full] [--size N] [--json FILE] [--compare FILE] [--markdown FILE]`.
 * Each suite runs in a process of its own, so that none inherits another's memory, threads or compiled code.
 */
import { fork } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { describe } from './common/environment.js'
import {
  type BenchmarkFile,
  compareTables,
  markdownTable,
  plainTable,
  replaceSection,
  type SuiteResult,
} from './common/report.js'
import { type SuiteOptions, suites } from './common/suites.js'

const usage = `usage: npm run bench -- [SUITE...] [options]

${Object.entries(suites)
  .map(([name, { summary }]) => `  ${name.padEnd(16)}${summary}`)
  .join('\n')}

  --quick         small sizes, few runs: shows that it works, measures nothing
  --full          the large layers too, and 65536 centroids
  --size N        of the suite layer one square layer alone, on one thread
  --json FILE     write the results; suites that did not run keep the results FILE has
  --compare FILE  one more column: the ratio to the results in FILE
  --markdown FILE replace the sections of the suites in FILE`

const { values, positionals } = readArguments()
const chosen = positionals.length > 0 ? positionals : Object.keys(suites)
const { quick, full, size, json, compare, markdown } = values
const earlier = compare === undefined ? undefined : await readResults(compare)
const page = markdown === undefined ? undefined : await readFile(markdown, 'utf8')

const results: Record<string, SuiteResult> = {}
for (const name of chosen) {
  const result = await runSuite(name, { quick, full, ...(size !== undefined && { size: Number(size) }) })
  results[name] = result
  show(name, result)
}
if (json !== undefined) await writeResults(json)
if (markdown !== undefined && page !== undefined) await writeFile(markdown, withSections(page))

function readArguments() {
  try {
    const parsed = parseArgs({
      allowPositionals: true,
      options: {
        quick: { type: 'boolean', default: false },
        full: { type: 'boolean', default: false },
        size: { type: 'string' },
        json: { type: 'string' },
        compare: { type: 'string' },
        markdown: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    })
    const unknown = parsed.positionals.find((name) => !Object.hasOwn(suites, name))
    if (unknown !== undefined) throw new Error(`found the suite ${unknown}`)
    const { size, markdown } = parsed.values
    if (size !== undefined && !(Number.isInteger(Number(size)) && Number(size) >= 64))
      throw new Error(`found --size ${size}, expected a whole number from 64`)
    if (size !== undefined && parsed.positionals.join() !== 'layer')
      throw new Error(`--size is of the suite layer alone, expected: npm run bench -- layer --size ${size}`)
    if (size !== undefined && markdown !== undefined)
      throw new Error(
        '--size gives a part of a section, which --markdown would put in the place of all of it',
      )
    if (parsed.values.help) {
      console.log(usage)
      process.exit(0)
    }
    return parsed
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${usage}`)
    process.exit(2)
  }
}

function runSuite(name: string, options: SuiteOptions): Promise<SuiteResult> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(new URL('suite.ts', import.meta.url)), [name, JSON.stringify(options)])
    let result: SuiteResult | undefined
    child.on('message', (message) => {
      result = message as SuiteResult
    })
    child.on('error', reject)
    child.on('exit', (code, signal) => {
      if (result !== undefined && code === 0) resolve(result)
      else reject(new Error(`the suite ${name} ended with ${signal ?? `exit code ${code}`}`))
    })
  })
}

function show(name: string, { environment, tables }: SuiteResult): void {
  const before = earlier?.suites[name]
  console.log(`\n${name}: ${describe(environment)}`)
  if (before) console.log(`earlier: ${describe(before.environment)}`)
  for (const table of before ? compareTables(tables, before.tables) : tables) {
    console.log(`\n${plainTable(table)}`)
  }
}

async function readResults(path: string): Promise<BenchmarkFile> {
  return JSON.parse(await readFile(path, 'utf8')) as BenchmarkFile
}

async function writeResults(path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  const kept = existsSync(path) ? await readResults(path) : undefined
  const merged = kept?.quick === quick ? { ...kept.suites, ...results } : results
  const file: BenchmarkFile = { quick, suites: merged }
  await writeFile(path, `${JSON.stringify(file, null, 2)}\n`)
}

function withSections(text: string): string {
  return Object.entries(results).reduce((updated, [name, { environment, tables }]) => {
    const command = ['npm run bench --', name, ...(full ? ['--full'] : []), ...(quick ? ['--quick'] : [])]
    const header = `\`${command.join(' ')}\` on ${describe(environment)}.`
    return replaceSection(updated, name, [header, ...tables.map(markdownTable)].join('\n\n'))
  }, text)
}
