/** Where a trellis is not the best: many bits, groups of few rows, zeros. `npx tsx benchmarks/layers/trellis-limits.ts` */
import {
  bitsPerValue,
  dequantizeLayer,
  dequantizeScalar,
  type Matrix,
  packLayer,
  packScalar,
  quantizeGptq,
  quantizeLayer,
  reconstructionError,
  type VqOptions,
} from 'gptvq'
import { gaussianMatrix, randomHessian } from '../../test/support/random-matrix.js'

const [weight, hessian] = [gaussianMatrix(256, 256, 1), randomHessian(256, 1000, 2)]

const settings: readonly VqOptions[] = [
  { bits: 5, vectorDim: 2 },
  { bits: 5 },
  { bits: 5, bpv: 6.0625, vectorDim: 2 },
  { bits: 6 },
  { bits: 6, vectorDim: 1, codebookBits: 16 },
  { bits: 8 },
  { bits: 8, vectorDim: 1, codebookBits: 16 },
  {},
  { trellisBits: 4 },
  { groupSize: 4096 },
  { groupSize: 1024 },
  { groupSize: 256 },
  { trellisBits: 0 },
]

for (const options of settings) await measure(JSON.stringify(options), weight, options)
for (const bits of [5, 6, 8]) {
  const layer = await quantizeGptq(weight, hessian, { bits })
  const { relative } = reconstructionError(weight, dequantizeScalar(layer), hessian)
  say(`GPTQ, ${bits} bits`, bitsPerValue(packScalar(layer)).total, relative)
}

const pruned = {
  ...weight,
  data: weight.data.map((value, i) => (((i * 2654435761) >>> 0) % 2 === 0 ? value : 0)),
}
for (const options of [{}, { trellisBits: 0 }])
  await measure(`pruned ${JSON.stringify(options)}`, pruned, options)

async function measure(name: string, of: Matrix, options: VqOptions): Promise<void> {
  const layer = await quantizeLayer(of, hessian, options)
  const { relative } = reconstructionError(of, dequantizeLayer(layer), hessian)
  say(name, bitsPerValue(packLayer(layer)).total, relative)
}

function say(name: string, bits: number, error: number): void {
  console.log(`${name.padEnd(50)} ${bits.toFixed(3)} bits per value, error ${error.toExponential(2)}`)
}
