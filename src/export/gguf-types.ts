import type { Checkpoint } from '../checkpoint/checkpoint.js'
import type { ModuleRecord } from '../checkpoint/quantized/quantized-config.js'
import { requireOneOf } from '../common/check-option.js'
import { exactTypeOf } from '../gguf/blocks/exact-blocks.js'
import { type GgufType, ggufType } from '../gguf/blocks/tensor-types.js'
import type { NamedTensor } from '../gguf/tensor-names.js'

/** How weights are stored in a GGUF file. */
export type GgufExportType = 'auto' | 'f32' | 'f16' | 'bf16' | 'q8_0' | 'q5_1' | 'q5_0' | 'q4_1' | 'q4_0'

/** All values of {@link GgufExportType}. */
export const ggufExportTypes: readonly GgufExportType[] = [
  'auto',
  'f32',
  'f16',
  'bf16',
  'q8_0',
  'q5_1',
  'q5_0',
  'q4_1',
  'q4_0',
]

/** `general.file_type`, by which llama.cpp names a file; it is only shown. */
export const fileTypes: Readonly<Record<GgufExportType, number>> = {
  auto: 7,
  f32: 0,
  f16: 1,
  q4_0: 2,
  q4_1: 3,
  q8_0: 7,
  q5_0: 8,
  q5_1: 9,
  bf16: 32,
}

/** @throws OptionError for a type that is not written */
export function requireExportType(type: GgufExportType): void {
  requireOneOf('type', type, ggufExportTypes)
}

/** Embedding and output projection: rounded to less than 8 bits they cost more than they save. */
const sensitive = new Set(['token_embd.weight', 'output.weight'])

/**
 * The type that a tensor is written in. Lists (norms, biases) and routers are F32, as llama.cpp asks for.
 *
 * @param records of the model's quantized layers, by the name of their weight
 */
export function typeOfTensor(
  named: NamedTensor,
  wanted: GgufExportType,
  checkpoint: Checkpoint,
  records: ReadonlyMap<string, ModuleRecord>,
): GgufType {
  if (!named.matrix) return ggufType('F32')
  const chosen = wanted === 'auto' ? autoType(named, checkpoint, records) : wanted.toUpperCase()
  const type = ggufType(chosen)
  if (type.plain !== undefined) return type
  if (named.cols % type.blockValues !== 0) return ggufType('F16')
  return sensitive.has(named.name) && wanted !== 'auto' ? ggufType('Q8_0') : type
}

/** The type that loses least: that of the same codes, or of the same numbers. */
function autoType(
  { sources }: NamedTensor,
  checkpoint: Checkpoint,
  records: ReadonlyMap<string, ModuleRecord>,
): string {
  const types = new Set(sources.map((name) => typeOfSource(name, checkpoint, records)))
  const [only] = types
  return types.size === 1 ? only : 'Q8_0'
}

function typeOfSource(
  name: string,
  { tensors }: Checkpoint,
  records: ReadonlyMap<string, ModuleRecord>,
): string {
  const record = records.get(name)
  if (record !== undefined) return exactTypeOf(record) ?? 'Q8_0'
  const info = tensors.get(name)
  if (info?.stored !== undefined) {
    const { type } = info.stored
    return ggufType(type).plain === undefined ? 'Q8_0' : type
  }
  return info?.dtype === 'F16' || info?.dtype === 'BF16' ? info.dtype : 'F32'
}
