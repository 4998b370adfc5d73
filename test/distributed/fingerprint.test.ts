import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { availableBlas } from '../support/blas.js'

const blas = await availableBlas()
const script = fileURLToPath(new URL('say-fingerprint.ts', import.meta.url))

/** How a process computes whose OpenBLAS is told to take the products of some processor. */
async function computing(core: string): Promise<{ name: string; library: string }> {
  const env = { ...process.env, OPENBLAS_CORETYPE: core }
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', script], { env })
  return JSON.parse(stdout)
}

describe.skipIf(!blas?.description.startsWith('OpenBLAS'))('the name for how a process computes', () => {
  // the first two differ in the bits of long sums only, the last two in nothing that was seen yet
  it.each([
    ['SkylakeX', 'Cooperlake'],
    ['Haswell', 'Zen'],
  ])('is another for the products of %s than for those of %s', { timeout: 60_000 }, async (...cores) => {
    const [one, other] = await Promise.all(cores.map(computing).map(orNone))
    // a library of few processors, or a processor that does not know the other's instructions
    if (one === undefined || other === undefined || one.library === other.library) return
    expect(one.name).not.toBe(other.name)
  })

  it('is the same in two processes that compute alike', { timeout: 60_000 }, async () => {
    const [one, other] = await Promise.all([computing(''), computing('')])
    expect(one).toEqual(other)
  })
})

const orNone = <T>(value: Promise<T>) => value.catch(() => undefined)
