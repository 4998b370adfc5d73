/**
 * The part of dequantized.py that is done by this package: quantizes models, writes them as plain folders, and computes
 * logits of the quantized ones.
 *
 *     npx tsx scripts/oracle/dequantized.ts OUT MODEL...
 *
 * For each model OUT gets `<name>/quantized`, `<name>/plain` (as `gptvq dequantize` writes it, in F32), and
 * `<name>/logits.f32`: of the quantized folder, for the tokens of the model's oracle.safetensors.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { forwardLogits } from '../../src/model/passes/forward-logits.js'
import { dequantizeModel, openModel, quantizeModel, startEngine } from '../../src/model.js'
import { openFixtureFolder } from '../../test/model/families/fixture.js'

const [out, ...models] = process.argv.slice(2)
await startEngine('wasm')
for (const model of models) {
  const { tokens, sequences, config } = await openFixtureFolder(model)
  const length = Math.min(tokens.length / sequences, config.maxPositions)
  const folder = join(out, basename(model))
  await mkdir(folder, { recursive: true })
  const [quantized, plain] = [join(folder, 'quantized'), join(folder, 'plain')]
  await quantizeModel({
    model,
    output: quantized,
    force: true,
    calibration: { sequences: [tokens.slice(0, length)] },
    embeddingBits: 8,
    // few weights share a codebook, since these layers are tiny
    groupSize: 512,
    columnsPerGroup: 32,
    scaleBlockSize: 'none',
    kmeansIterations: 5,
    refinementRounds: 1,
  })
  await dequantizeModel({ model: quantized, output: plain, force: true, dtype: 'F32' })
  const opened = await openModel(quantized)
  await writeFile(
    join(folder, 'logits.f32'),
    await forwardLogits(opened.source, opened.config, tokens, sequences),
  )
  await opened.close()
}
