// Gives mutants of small model folders to every command, until the time or the count is up:
// `npx tsx scripts/fuzz.ts 20000` (from seed 0), `npx tsx scripts/fuzz.ts 1 4711` (one that failed).
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fuzzedFolders, fuzzFolders } from '../test/support/fuzz.js'

const [count = 1000, first = 0] = process.argv.slice(2).map(Number)
const work = await mkdtemp(join(tmpdir(), 'gptvq-fuzz-'))
try {
  const folders = await fuzzedFolders(work)
  let found = 0
  for (let seed = first; seed < first + count; seed += 100) {
    const findings = await fuzzFolders(folders, work, seed, Math.min(100, first + count - seed))
    for (const { seed, file, command, error } of findings) {
      console.log(`seed ${seed}, ${file}, ${command}: ${error instanceof Error ? error.stack : error}`)
    }
    found += findings.length
    if (process.stderr.isTTY) process.stderr.write(`\r${seed - first} mutants, ${found} findings`)
  }
  console.log(`${count} mutants, ${found} findings`)
  if (found > 0) process.exitCode = 1
} finally {
  await rm(work, { recursive: true, force: true })
}
