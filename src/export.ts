/**
 * Models for other runtimes: GGUF files for llama.cpp, ONNX graphs for transformers.js and onnxruntime; and to the
 * Hugging Face hub. Runs in Node.
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
export type { CardScores } from './export/model-card.js'
export { type ExportedOnnx, type ExportOnnxOptions, exportOnnx } from './export/onnx/export-onnx.js'
export { type OnnxWeights, onnxWeights } from './export/onnx/weights/weights.js'
export { type PushedModel, type PushModelOptions, pushModel } from './export/push-model.js'
export type { OnProgress, Progress } from './pipeline/progress.js'
