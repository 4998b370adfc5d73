/** Quantizes a model whose activations outweigh all else, and prints its peak memory: `peak-of-run.ts FOLDER bounded|free`. */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { setThreads } from '../../../src/kernels/kernels.js'
import { quantizeModel } from '../../../src/model.js'
import { leastMemory } from '../../../src/pipeline/calibrate/memory-bound.js'
import { prepareRun } from '../../../src/pipeline/quantize/prepare-run.js'
import { writeTinyModel } from '../../support/tiny-model.js'

const [folder, bounded] = process.argv.slice(2)
const length = 64
// of more than there are at work the bound would have room left
setThreads(1)
if (!existsSync(folder)) await writeTinyModel(folder)
const sequences = Array.from({ length: 8000 }, (_, s) =>
  Int32Array.from({ length }, (_, i) => (31 * s + i * i + (s % 7) * i) % 256),
)
const options = { model: folder, calibration: { sequences }, method: 'gptq', groupSize: 16 } as const
const prepared = await prepareRun(options)
const bound = Math.ceil(leastMemory(prepared) + 20e6)
await prepared.checkpoint.close()
const hash = createHash('sha256')
await quantizeModel({
  ...options,
  ...(bounded === 'bounded' && { memory: bound }),
  onLayer(_, layer) {
    for (const value of Object.values(layer)) if (ArrayBuffer.isView(value)) hash.update(value as Uint8Array)
  },
})
const peak = 1024 * process.resourceUsage().maxRSS
console.log(JSON.stringify({ bound, peak, digest: hash.digest('hex') }))
