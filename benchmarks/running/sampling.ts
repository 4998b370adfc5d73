/**
 * Calibration text that the embedded model writes token by token, from cached keys and values, by another checkout of this
 * package and by this one, in turns: `npm run build && npx tsx benchmarks/running/sampling.ts CHECKOUT [--rounds 3]`.
 * CHECKOUT is built too (`git worktree add ../before COMMIT; cd ../before; npm ci; npm run build`). Prints Markdown.
 */
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { describe, environment } from '../common/environment.js'
import { medianOf } from '../common/harness.js'
import { lastLineIn } from '../common/in-checkout.js'
import { modelFolder } from '../common/real-layers.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '3' }, length: { type: 'string', default: '256' } },
})
const [before] = positionals
if (before === undefined) throw new Error('which checkout? npx tsx benchmarks/running/sampling.ts CHECKOUT')
const here = fileURLToPath(new URL('../..', import.meta.url))
const length = Number(values.length)

const from = describe(environment())
console.log('| sequences | before, tokens per second | now | times as fast |')
console.log('| ---: | ---: | ---: | ---: |')
for (const sequences of [1, 16, 128]) {
  const rates = { before: [] as number[], now: [] as number[] }
  for (let round = 0; round < Number(values.rounds); round++) {
    rates.before.push(await tokensPerSecond(before, sequences))
    rates.now.push(await tokensPerSecond(here, sequences))
  }
  const [old, now] = [medianOf(rates.before), medianOf(rates.now)]
  console.log(`| ${sequences} | ${old.toFixed(0)} | ${now.toFixed(0)} | ${(now / old).toFixed(2)} |`)
}
console.log(`\n${from}`)

/** From the first position to the last: what is loaded and compiled before does not count. */
async function tokensPerSecond(checkout: string, sequences: number): Promise<number> {
  const options = { model: modelFolder, method: 'gptq', bits: 4, sequences, sequenceLength: length }
  const program = `
    const [times, written] = [[], new AbortController()]
    const onProgress = ({ step }) => {
      if (step.startsWith('writing calibration text')) times.push(performance.now())
      else if (times.length > 0) written.abort()
    }
    const options = ${JSON.stringify(options)}
    await quantizeModel({ ...options, engine: 'wasm', onProgress, signal: written.signal }).catch((error) => {
      if (!written.signal.aborted) throw error
    })
    console.log((times.at(-1) - times[0]) / (times.length - 1) / 1000)
    process.exit()`
  return sequences / Number(await lastLineIn(checkout, program))
}
