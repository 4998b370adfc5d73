/**
 * Quantizes a table of embeddings four values at a time: `fitCodebook` finds the centroids, and the packing of layers
 * stores any table of vectors. Here it is the table of the embedded model, 4096 tokens x 256.
 *
 * Run it with `npx tsx examples/embedding-table.ts`.
 */
import {
  bitsPerValue,
  dequantizeLayer,
  encodeHalves,
  fitCodebook,
  type Matrix,
  matrix,
  packedBytes,
  packLayer,
  unpackLayer,
  type VqLayer,
} from 'gptvq'
import { openModel } from 'gptvq/model'

const model = await openModel('examples/models/tiny-llama')
const { vocabSize: rows, hiddenSize: cols } = model.config
const table = matrix(rows, cols, await model.source.floats('model.embed_tokens.weight'))
await model.close()

/** One codebook of 2^(4 bits) centroids for the whole table, its values stored as halves. */
function quantizeTable({ rows, cols, data }: Matrix, bits: number): VqLayer {
  const vectorDim = 4
  const vectors = matrix((rows * cols) / vectorDim, vectorDim, data)
  const { codebook, assignments } = fitCodebook(vectors, { k: 2 ** (bits * vectorDim), iterations: 10 })
  const codebooks = new Uint16Array(codebook.data.length)
  encodeHalves(codebook.data, codebooks)
  return {
    layout: { rows, cols, vectorDim, bits, columnsPerGroup: cols, rowsPerGroup: rows },
    indices: assignments,
    codebookBits: 16,
    codebooks,
    codebookScales: Float32Array.of(1),
  }
}

/** The row most like row `token` of a table, by cosine, other than itself. */
function nearest({ rows, cols, data }: Matrix, token: number): number {
  const dot = (a: number, b: number) => {
    let sum = 0
    for (let i = 0; i < cols; i++) sum += data[a * cols + i] * data[b * cols + i]
    return sum
  }
  const cosines = Float64Array.from({ length: rows }, (_, row) => dot(token, row) / Math.sqrt(dot(row, row)))
  cosines[token] = -Infinity
  return cosines.indexOf(Math.max(...cosines))
}

const tokens = Array.from({ length: 32 }, (_, i) => 100 + 120 * i)
console.log(`a table of ${rows} x ${cols}, ${2 * table.data.length} bytes in 16 bits`)
for (const bits of [1, 2]) {
  const packed = packLayer(quantizeTable(table, bits))
  const restored = dequantizeLayer(unpackLayer(packed))
  let [error, energy] = [0, 0]
  for (const [i, value] of table.data.entries()) {
    error += (value - restored.data[i]) ** 2
    energy += value ** 2
  }
  const same = tokens.filter((token) => nearest(table, token) === nearest(restored, token)).length
  console.log(
    `${packedBytes(packed)} bytes, ${bitsPerValue(packed).total.toFixed(3)} bits per value: ` +
      `${(10 * Math.log10(energy / error)).toFixed(2)} dB, ${same} of ${tokens.length} tokens keep their nearest neighbour`,
  )
}
