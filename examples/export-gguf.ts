/** Writes the embedded model for llama.cpp and reads the file back. Run: npx tsx examples/export-gguf.ts */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { exportGguf } from 'gptvq/export'
import { inspectModel } from 'gptvq/model'

const folder = mkdtempSync(join(tmpdir(), 'gptvq-gguf-'))
const output = join(folder, 'tiny.gguf')
for (const type of ['auto', 'q8_0', 'q4_0'] as const) {
  const { bytes, types } = await exportGguf({
    model: 'examples/models/tiny-llama',
    output,
    type,
    force: true,
  })
  const worst = Math.max(...types.map(({ addedError }) => addedError))
  console.log(`${type}: ${bytes} bytes, added error ${worst.toFixed(4)}`)
}

// a GGUF file stands wherever a model folder can
const { architecture, weights } = await inspectModel(output)
console.log(`${architecture}, ${weights.length} tensors, ${weights[2].name} as ${weights[2].format}`)
rmSync(folder, { recursive: true })
