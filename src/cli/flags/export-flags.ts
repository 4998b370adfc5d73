import type { ExportGgufOptions } from '../../export/export-gguf.js'
import { ggufExportTypes } from '../../export/gguf-types.js'
import type { ExportOnnxOptions } from '../../export/onnx/export-onnx.js'
import type { OnnxWeights } from '../../export/onnx/weights/weights.js'
import { splitRules } from '../../gguf/tokenizer/split-rules.js'
import { UsageError } from '../errors.js'
import { type FlagsOf, type FlagValues, flagName } from './flags.js'

/** The formats that models are exported in. */
export type ExportFormat = 'gguf' | 'onnx'

/** The flags of `gptvq export`. */
export const exportFlags = {
  format: {
    kind: 'choice',
    choices: ['gguf', 'onnx'] satisfies readonly ExportFormat[],
    required: true,
    help: 'gguf: one file for llama.cpp and what is built on it; onnx: a folder for transformers.js and onnxruntime',
  },
  out: { kind: 'path', value: 'FILE', required: true, help: 'the file to write; with onnx the folder' },
  type: {
    kind: 'choice',
    choices: ggufExportTypes,
    help: 'gguf: how weights are stored, see the table; with fewer than 8 bits, embedding and output projection have 8',
    default: 'auto',
  },
  preTokenizer: {
    kind: 'choice',
    choices: splitRules.map(({ names }) => names[0]),
    help: "gguf: llama.cpp's name of the rule by which the tokenizer cuts words",
    default: 'recognised by its pattern',
  },
  weights: {
    kind: 'choice',
    choices: ['packed', 'nbits', 'dense16', 'dense32'] satisfies readonly OnnxWeights[],
    help: 'onnx: how weights are stored, see the table',
    default: 'packed',
  },
  encodings: {
    kind: 'switch',
    help: 'onnx, dense32: write the grids of scalar layers beside the graph, as AIMET has them',
  },
  inlineBytes: {
    kind: 'bytes',
    help: 'onnx: up to so many bytes of weights lie in model.onnx itself, more in files beside it',
    default: '1GiB',
  },
  force: { kind: 'switch', help: 'replace a GGUF file or model folder that is already there' },
} as const satisfies FlagsOf<ExportGgufOptions & ExportOnnxOptions & { format: ExportFormat }>

/** Which flags belong to one format alone. */
const ownFlags = {
  gguf: ['type', 'preTokenizer'],
  onnx: ['weights', 'encodings', 'inlineBytes'],
} as const satisfies Record<ExportFormat, readonly (keyof typeof exportFlags)[]>

/** Refuses a flag of another format. @throws UsageError naming it and the format it belongs to */
export function requireOwnFlags(format: ExportFormat, values: FlagValues<typeof exportFlags>): void {
  for (const [owner, flags] of Object.entries(ownFlags)) {
    const foreign = owner === format ? undefined : flags.find((flag) => values[flag] !== undefined)
    if (foreign === undefined) continue
    const own = ownFlags[format].map(flagName).join(', ')
    throw new UsageError(
      `${flagName(foreign)} belongs to --format ${owner}, not to ${format}; leave it out (${format} has ${own})`,
      'export',
    )
  }
}
