import { execFile } from 'node:child_process'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'

const root = dirname(dirname(fileURLToPath(import.meta.url)))

it('examples/layer.ts runs, and ranks GPTVQ over GPTQ over RTN at no more bits', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', 'examples/layer.ts'], {
    cwd: root,
  })
  const results = new Map(
    Array.from(stdout.matchAll(/^(\w+) +([\d.]+) bits per value +([\d.]+) dB$/gm), ([, name, bits, snr]) => [
      name,
      { bits: Number(bits), snr: Number(snr) },
    ]),
  )
  expect([...results.keys()]).toEqual(['RTN', 'GPTQ', 'GPTVQ'])
  const [rtn, gptq, gptvq] = results.values()
  expect(gptq.snr).toBeGreaterThan(rtn.snr)
  expect(gptvq.snr).toBeGreaterThan(gptq.snr)
  expect(gptvq.bits).toBeLessThanOrEqual(gptq.bits)
})
