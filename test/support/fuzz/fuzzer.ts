import { GptvqError } from '../../../src/common/errors.js'

/** A kind of input that is made wrong at random, and what has to bear it. */
export interface Fuzzer {
  readonly name: string
  /** Makes the sound inputs. @param work an empty folder of its own */
  prepare(work: string): Promise<FuzzCase>
}

/** Gives one mutant to all that should bear it. The seed is its number: the same one makes the same mutant. */
export type FuzzCase = (seed: number) => Promise<Finding[]>

/** A call that neither succeeded nor failed with a sound error of the library's own. */
export interface Finding {
  /** What was changed, and what was called. */
  readonly what: string
  readonly error: unknown
}

/** No message is longer: names and values of a file are cut. */
const LONGEST_MESSAGE = 4000

/** Makes a call; all that may come of it is success or a typed error that can be shown in a terminal. */
export async function tryCall(what: string, call: () => unknown): Promise<Finding[]> {
  try {
    await call()
    return []
  } catch (error) {
    return isSound(error) ? [] : [{ what, error }]
  }
}

function isSound(error: unknown): boolean {
  if (!(error instanceof GptvqError)) return false
  const { message } = error
  return message.length > 10 && message.length < LONGEST_MESSAGE && !/[^\P{Cc}\n\t]/u.test(message)
}

/** Makes the mutants `first` to `first + count - 1`. */
export async function findFailures(
  fuzzCase: FuzzCase,
  first: number,
  count: number,
): Promise<(Finding & { readonly seed: number })[]> {
  const findings: (Finding & { seed: number })[] = []
  for (let seed = first; seed < first + count; seed++) {
    for (const finding of await fuzzCase(seed)) findings.push({ seed, ...finding })
  }
  return findings
}
