/**
 * Quantizes one layer from your own arrays: weights (out x in) and the activations that reach them (tokens x in).
 * Here both are made up; the activations are correlated, as those of real models are.
 *
 * Run it with `npx tsx examples/layer.ts`.
 */
import {
  bitsPerValue,
  dequantizeLayer,
  dequantizeScalar,
  HessianAccumulator,
  matrix,
  packLayer,
  packScalar,
  quantizeGptq,
  quantizeLayer,
  quantizeRtn,
  reconstructionError,
} from 'gptvq'

const [outFeatures, inFeatures, tokens] = [256, 256, 2048]
const noise = (i: number) => Math.sin(12.9898 * i + Math.sin(78.233 * i) * 43758.5453)
const weight = matrix(
  outFeatures,
  inFeatures,
  Float32Array.from(
    { length: outFeatures * inFeatures },
    (_, i) => noise(i) + noise(i + 0.5) + noise(i + 0.25),
  ),
)
const activations = matrix(
  tokens,
  inFeatures,
  Float32Array.from({ length: tokens * inFeatures }, (_, i) => {
    const token = Math.floor(i / inFeatures)
    return noise(0.1 * i) + 2 * noise(token) * noise(7 * (i % inFeatures))
  }),
)

const inputs = new HessianAccumulator(inFeatures)
inputs.add(activations) // as many batches as there are
const hessian = inputs.hessian()

const rtn = quantizeRtn(weight, { bits: 2 })
const gptq = await quantizeGptq(weight, hessian, { bits: 2 })
const gptvq = await quantizeLayer(weight, hessian, { vectorDim: 2, bits: 2 })

for (const [name, values, packed] of [
  ['RTN', dequantizeScalar(rtn), packScalar(rtn)],
  ['GPTQ', dequantizeScalar(gptq), packScalar(gptq)],
  ['GPTVQ', dequantizeLayer(gptvq), packLayer(gptvq)],
] as const) {
  const { snrDb } = reconstructionError(weight, values, hessian)
  console.log(
    `${name.padEnd(5)}  ${bitsPerValue(packed).total.toFixed(3)} bits per value  ${snrDb.toFixed(2)} dB`,
  )
}
