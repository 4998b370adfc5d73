import { expect, it } from 'vitest'
import { folderOfFile } from '../cli/support.js'
import { findFailures } from '../support/fuzz/fuzzer.js'
import { fuzzers } from '../support/fuzz/index.js'

/** Of each kind; scripts/fuzz.ts tries as many as one likes. */
const MUTANTS: Readonly<Record<string, number>> = {
  folders: 400,
  gguf: 400,
  tokenizers: 2000,
  options: 400,
  'command line': 200,
}

it.each(fuzzers)(
  'wrong $name end in success or in a sound error of the library',
  async ({ name, prepare }) => {
    const fuzzCase = await prepare(await folderOfFile())
    const findings = await findFailures(fuzzCase, 1_000_000, MUTANTS[name])
    expect(findings.map(({ seed, what, error }) => `${seed} ${what}: ${error}`)).toEqual([])
  },
  600_000,
)
