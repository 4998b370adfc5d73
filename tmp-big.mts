import {
  bitsPerValue,
  dequantizeLayer,
  HessianAccumulator,
  matrix,
  packLayer,
  quantizeLayer,
  reconstructionError,
  setThreads,
} from './src/index.js'
import { randomGenerator, randomNormal } from './src/random.js'

setThreads(1)
const n = +process.argv[2]
const r = randomGenerator(1)
const w = matrix(
  n,
  n,
  Float32Array.from({ length: n * n }, () => randomNormal(r)),
)
const x = matrix(2 * n, n, new Float32Array(2 * n * n))
for (let t = 0; t < 2 * n; t++) {
  let p = 0
  for (let j = 0; j < n; j++) {
    p = 0.8 * p + 0.6 * randomNormal(r)
    x.data[t * n + j] = p * (j % 37 === 0 ? 8 : 1)
  }
}
const acc = new HessianAccumulator(n)
acc.add(x)
const h = acc.hessian()
for (const o of [{}, { trellisBits: 0 }, {}, { trellisBits: 0 }]) {
  const t = process.cpuUsage()
  const l = await quantizeLayer(w, h, o)
  const c = process.cpuUsage(t)
  console.log(
    n,
    JSON.stringify(o),
    ((c.user + c.system) / 1e6).toFixed(1),
    's cpu',
    reconstructionError(w, dequantizeLayer(l), h).relative.toFixed(5),
    bitsPerValue(packLayer(l)).total.toFixed(4),
  )
}
