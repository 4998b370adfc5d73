// Gives wrong inputs of each kind to all that should bear them: `npx tsx scripts/fuzz.ts 20000`, or one kind,
// `npx tsx scripts/fuzz.ts 20000 gguf`, or one mutant that failed, by its number, `npx tsx scripts/fuzz.ts 1 gguf 4711`.
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findFailures } from '../test/support/fuzz/fuzzer.js'
import { fuzzers } from '../test/support/fuzz/index.js'

const [count = '1000', kind, first = '0'] = process.argv.slice(2)
const chosen = fuzzers.filter(({ name }) => kind === undefined || name === kind)
if (chosen.length === 0) {
  throw new Error(`no kind '${kind}'; there are ${fuzzers.map(({ name }) => name).join(', ')}`)
}
const work = await mkdtemp(join(tmpdir(), 'gptvq-fuzz-'))
try {
  for (const { name, prepare } of chosen) {
    const own = join(work, name)
    await mkdir(own)
    const fuzzCase = await prepare(own)
    let found = 0
    for (let done = 0; done < Number(count); done++) {
      // a mutant that hangs is the one named last
      if (process.stderr.isTTY) process.stderr.write(`\r${name} ${Number(first) + done}, ${found} findings`)
      for (const { seed, what, error } of await findFailures(fuzzCase, Number(first) + done, 1)) {
        console.log(`${name} ${seed}, ${what}: ${error instanceof Error ? error.stack : error}`)
        found++
      }
    }
    console.log(`${name}: ${count} mutants, ${found} findings`)
    if (found > 0) process.exitCode = 1
  }
} finally {
  await rm(work, { recursive: true, force: true })
}
