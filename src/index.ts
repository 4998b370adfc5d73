/**
 * One layer: GPTVQ, the baselines it is held against, and their parts, each usable alone. Runs in Node and in browsers.
 *
 * @module gptvq
 */
export { type GptqOptions, quantizeGptq } from './baselines/gptq.js'
export { type KmeansOptions, quantizeKmeans } from './baselines/kmeans.js'
export { quantizeRtn, type RtnOptions } from './baselines/rtn.js'
export type {
  ScalarGranularity,
  ScalarGrid,
  ScalarGridOptions,
  ScalarOptions,
  ScaleSearch,
} from './baselines/scalar-options.js'
export { type CodebookOptions, type FittedCodebook, fitCodebook } from './codebook/fit-codebook.js'
export type { KmeansInit } from './codebook/seeds.js'
export type { CodebookBits, CodebookElements } from './codebook/store-codebook.js'
export {
  AbortedError,
  CheckpointError,
  GptvqError,
  NumericError,
  OptionError,
  ShapeError,
  TextError,
  UnsupportedError,
} from './common/errors.js'
export { type Matrix, matrix } from './common/matrix.js'
export {
  type CorrectedWeight,
  correctDrift,
  type DriftCorrectionOptions,
  type DriftHalves,
  type DriftMove,
  type LayerDrift,
} from './gptvq/drift-correction.js'
export type { VectorMetric, VqOptions } from './gptvq/options.js'
export { type LayerTask, quantizeLayer } from './gptvq/quantize-layer.js'
export { type LayerOnInputs, quantizeOnInputs } from './gptvq/quantize-on-inputs.js'
export { type ReconstructionError, reconstructionError } from './gptvq/reconstruction-error.js'
export { type DriftAccumulator, driftAccumulator } from './hessian/drift.js'
export { HessianAccumulator } from './hessian/hessian.js'
export {
  bfloatToFloat,
  decodeBfloats,
  decodeHalves,
  encodeBfloats,
  encodeHalves,
  floatToBfloat,
  floatToHalf,
  halfToFloat,
} from './kernels/half.js'
export { setThreads, threadCount } from './kernels/kernels.js'
export { type BitsPerValue, bitsPerValue, packedBytes } from './packing/bits-per-value.js'
export type { BlockScales, ScaleBlockSize } from './packing/block-scales.js'
export type { ColumnOrder, IndexWidths, LayoutOptions } from './packing/layout-options.js'
export { type PackedLayer, type PackedScales, packLayer, unpackLayer } from './packing/pack-layer.js'
export {
  dequantizeScalar,
  type PackedScalarLayer,
  packScalar,
  type ScalarLayer,
  unpackScalar,
} from './packing/scalar-layer.js'
export {
  decodeCodebooks,
  dequantizeLayer,
  type Trellis,
  type VqLayer,
  type VqLayout,
} from './packing/vq-layer.js'
