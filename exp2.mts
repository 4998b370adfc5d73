import { exportOnnx } from '/work/wt/onnx/src/export/onnx/export-onnx.js'
const [model, output, weights] = process.argv.slice(2)
const t = performance.now()
const r = await exportOnnx({ model, output, weights: weights as any, force: true })
console.log(((performance.now()-t)/1000).toFixed(1), 's', r.modelBytes/1e6, r.nodes, process.memoryUsage().rss/1e6)
