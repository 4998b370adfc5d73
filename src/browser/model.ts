/**
 * What of `gptvq/model` a browser has: reading, quantizing in memory and scoring; nothing that writes folders.
 *
 * @module gptvq/model
 */
export { type Checkpoint, openCheckpoint } from '../checkpoint/checkpoint.js'
export type { FetchOptions, ModelPlace, ModelSource } from '../checkpoint/model-source.js'
export { blobSource } from '../checkpoint/sources/blob-source.js'
export { cachedSource } from '../checkpoint/sources/cached-source.js'
export { directorySource } from '../checkpoint/sources/directory-source.js'
export { httpSource } from '../checkpoint/sources/http-source.js'
export { allLinearLayers, linearLayers } from '../model/decoder/linears.js'
export { describeDecoder, supportedFamilies } from '../model/families/index.js'
export { engineNames, startEngine } from '../model/ops/engine.js'
export { loadTokenizer } from '../model/tokenizer.js'
export { dequantize } from '../packing/quantized-layer.js'
export { readTokens } from '../pipeline/calibrate/text-source.js'
export { evaluateModel } from '../pipeline/evaluate/evaluate-model.js'
export { scoreModels } from '../pipeline/evaluate/evaluation.js'
export { cutWindows } from '../pipeline/evaluate/windows.js'
export { inspectModel } from '../pipeline/folders/inspect-model.js'
export { openModel, withQuantizedLayers } from '../pipeline/folders/open-model.js'
export { quantizeModel } from '../pipeline/quantize/quantize-model.js'
export { quantizationMethods } from '../pipeline/quantize/quantize-options.js'
