import { InferenceSession } from 'onnxruntime-node'
import { encodeModel } from '../../../src/export/onnx/encode-model.js'
import { createGraph, type Graph, output } from '../../../src/export/onnx/graph.js'

/** What a graph without inputs gives. */
export async function runGraph(
  build: (graph: Graph) => Promise<{ value: string; type: 'float32' | 'int32' }>,
) {
  const stored: Uint8Array[] = []
  const graph = createGraph(async (bytes) => {
    stored.push(bytes)
    return { file: 0, offset: stored.length - 1, bytes: bytes.length }
  })
  const { value, type } = await build(graph)
  output(graph, value, { name: 'result', type, dims: ['rows', 'cols'] })
  const bytes = encodeModel(
    graph,
    { version: 'test', metadata: {} },
    { dataOf: ({ offset }) => stored[offset] },
  )
  const session = await InferenceSession.create(bytes, { intraOpNumThreads: 1, logSeverityLevel: 3 })
  try {
    const { result } = await session.run({})
    return { dims: result.dims, values: Array.from(result.data as Float32Array | Int32Array) }
  } finally {
    await session.release()
  }
}
