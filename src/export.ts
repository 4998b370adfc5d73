/**
 * Models for other runtimes: GGUF files for llama.cpp, ONNX graphs for transformers.js and onnxruntime. Runs in Node.
 *
 * @module gptvq/export
 */
export {
  type ExportedGguf,
  type ExportedType,
  type ExportGgufOptions,
  exportGguf,
} from './export/export-gguf.js'
export { type GgufExportType, ggufExportTypes } from './export/gguf-types.js'
export { type ExportedOnnx, type ExportOnnxOptions, exportOnnx } from './export/onnx/export-onnx.js'
export { type OnnxWeights, onnxWeights } from './export/onnx/weights.js'
export type { OnProgress, Progress } from './pipeline/progress.js'
