/**
 * Draws a codebook of the embedded model beside the scalar grid of as many bits, for docs/vector-quantization.md:
 * `npx tsx docs/pictures/codebook.ts`.
 */
import { writeFile } from 'node:fs/promises'
import { matrix, quantizeKmeans } from 'gptvq'
import { openModel } from 'gptvq/model'
import { codebookGroup, codebookPlot } from 'gptvq/report'

const name = 'model.layers.1.self_attn.k_proj'
const model = await openModel('examples/models/tiny-llama')
try {
  const [rows, cols] = model.source.shape(`${name}.weight`)!
  const weight = matrix(rows, cols, await model.source.floats(`${name}.weight`))
  const layer = quantizeKmeans(weight, { vectorDim: 2, bits: 2, groupSize: 16384 })
  const picture = codebookPlot(codebookGroup(layer, 0, weight), { width: 800, title: `${name}, 64 rows` })
  await writeFile(new URL('codebook.svg', import.meta.url), picture)
} finally {
  await model.close()
}
