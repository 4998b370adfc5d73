/**
 * Models for other runtimes: GGUF files for llama.cpp. Runs in Node.
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
export type { OnProgress, Progress } from './pipeline/progress.js'
