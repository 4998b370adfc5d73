/**
 * Whole models in Hugging Face folders: quantize, evaluate, inspect, dequantize. Runs in Node.
 *
 * @module gptvq/model
 */

export type { RangeSearch } from './activations/find-range.js'
export type { ByteSource } from './checkpoint/byte-source.js'
export { type Checkpoint, openCheckpoint } from './checkpoint/checkpoint.js'
export type { Dtype, FloatDtype } from './checkpoint/dtype.js'
export type { FetchOptions, ModelPlace, ModelSource, OutwardLink } from './checkpoint/model-source.js'
export {
  type CheckpointWriter,
  type CheckpointWriterOptions,
  createCheckpointWriter,
  type WrittenCheckpoint,
} from './checkpoint/output/checkpoint-writer.js'
export type {
  ModuleRecord,
  QuantizationConfig,
  ScalarRecord,
  VqRecord,
} from './checkpoint/quantized/quantized-config.js'
export type { StoredActivations, StoredRounding } from './checkpoint/quantized/stored-activations.js'
export type { FileMetadata } from './checkpoint/safetensors/file-metadata.js'
export {
  type BlobLike,
  blobSource,
  type FileLike,
} from './checkpoint/sources/blob-source.js'
export { type CachedSourceOptions, cachedSource } from './checkpoint/sources/cached-source.js'
export { type DirectoryLike, directorySource, type EntryLike } from './checkpoint/sources/directory-source.js'
export { type HttpSourceOptions, httpSource } from './checkpoint/sources/http-source.js'
export type { TensorInfo, TensorSource } from './checkpoint/tensor-source.js'
export { type ResolveOptions, resolveModel } from './hub/resolve-model.js'
export { type ProductsName, productsNames, startProducts } from './kernels/native/start-products.js'
export type {
  Activation,
  AttentionDescription,
  AttentionProjections,
  BlockDescription,
  DecoderDescription,
  DenseFeedForward,
  EmbeddingDescription,
  FeedForwardDescription,
  HeadDescription,
  LinearDescription,
  NormDescription,
  RotaryDescription,
  RotaryScaling,
  RoutedFeedForward,
} from './model/decoder/description.js'
export { allLinearLayers, type LinearLayer, linearLayers } from './model/decoder/linears.js'
export type { ActivationPlace, OnActivations, WeightSource } from './model/decoder/weights.js'
export { describeDecoder, supportedFamilies } from './model/families/index.js'
export { type EngineName, engineNames, type StartedEngine, startEngine } from './model/ops/engine.js'
export { loadTokenizer, type Tokenizer } from './model/tokenizer.js'
export { dequantize, type PackedQuantizedLayer, type QuantizedLayer } from './packing/quantized-layer.js'
export type { ActivationOptions, ActivationRange } from './pipeline/activations/options.js'
export type { Scheme, SchemeOptions } from './pipeline/activations/scheme.js'
export {
  analyzeModel,
  type LayerAnalysis,
  type LayerSensitivity,
  type ModelAnalysis,
} from './pipeline/analyze/analyze-model.js'
export type { AnalyzeModelOptions } from './pipeline/analyze/options.js'
export type { InputRange, TensorRange } from './pipeline/analyze/tensor-ranges.js'
export type { CalibrationOptions } from './pipeline/calibrate/calibration.js'
export type { TokenWeighting } from './pipeline/calibrate/statistics/token-weights.js'
export { readTokens, type TextSource } from './pipeline/calibrate/text-source.js'
export {
  bestWithin,
  type CompareSettingsOptions,
  type Comparison,
  compareSettings,
  type Trial,
  type TrialResult,
} from './pipeline/compare/compare-settings.js'
export type { Equalization, EqualizationOptions } from './pipeline/equalize/options.js'
export { type Estimate, estimateModel } from './pipeline/estimate/estimate-model.js'
export type { PeakMemory } from './pipeline/estimate/peak-memory.js'
export type { StoredSizes } from './pipeline/estimate/stored-bytes.js'
export type { Continuations } from './pipeline/evaluate/continuations.js'
export {
  type EvaluateModelOptions,
  type Evaluation,
  evaluateModel,
} from './pipeline/evaluate/evaluate-model.js'
export {
  type ModelScores,
  type ScoredModel,
  type ScoreOptions,
  type ScoreProgress,
  type Scores,
  scoreModels,
} from './pipeline/evaluate/evaluation.js'
export { cutWindows } from './pipeline/evaluate/windows.js'
export {
  type DequantizedModel,
  type DequantizeModelOptions,
  dequantizeModel,
  type PlainDtype,
  plainDtypes,
} from './pipeline/folders/dequantize-model.js'
export { type InspectedWeight, type Inspection, inspectModel } from './pipeline/folders/inspect-model.js'
export { type OpenModel, openModel, withQuantizedLayers } from './pipeline/folders/open-model.js'
export type { OutputOptions } from './pipeline/folders/output.js'
export type { MixedBitsOptions } from './pipeline/mixed/options.js'
export type { LayerShare, MixedReport } from './pipeline/mixed/report.js'
export type { OnProgress, Progress } from './pipeline/progress.js'
export type { EndMethod, EndTensorOptions } from './pipeline/quantize/end-tensors.js'
export type { LayerOrder, LayerOrderOptions } from './pipeline/quantize/layers/layer-order.js'
export type { LayerPlanOptions, LayerSetting } from './pipeline/quantize/layers/layer-plan.js'
export type { LayerReport } from './pipeline/quantize/layers/layer-report.js'
export type { PhaseSeconds } from './pipeline/quantize/phase-seconds.js'
export { quantizeModel } from './pipeline/quantize/quantize-model.js'
export type {
  MemoryOptions,
  QuantizeModelOptions,
  ResumeOptions,
} from './pipeline/quantize/quantize-model-options.js'
export { type QuantizationMethod, quantizationMethods } from './pipeline/quantize/quantize-options.js'
export {
  type QuantizeTensorsOptions,
  quantizeTensors,
  type TensorsReport,
} from './pipeline/quantize/quantize-tensors.js'
export type { QuantizationReport } from './pipeline/quantize/report.js'
export { type ReportDataOptions, reportData } from './pipeline/reports/report-data.js'
export { type RunDetails, runDetails } from './pipeline/reports/run-details.js'
export { type WriteReportOptions, type WrittenReport, writeReport } from './pipeline/reports/write-report.js'
export type { TuningOptions } from './train/tuning/options.js'
export type { TuningEpoch, TuningReport } from './train/tuning/report.js'
export {
  type TuneCodebooksInput,
  type TunedCodebooks,
  tuneCodebooks,
} from './train/tuning/tune-codebooks.js'
export type { ModelTuningOptions } from './train/tuning/tune-model.js'
