import { CONSTANT_CODEBOOK, MOST_KEY_BITS } from '../../codebook/constant-codebook.js'
import { CheckpointError } from '../../common/errors.js'
import { type FloatDtype, isDtype, isFloatDtype } from '../dtype.js'
import { shownJson } from '../json-file.js'
import { parseActivations, type StoredActivations } from './stored-activations.js'

export const QUANT_METHOD = 'gptvq'
/** Versions of the format that this release reads. A folder has the least that its layers can be read by. */
export const FORMAT_VERSIONS = [1, 2] as const

/** A version of the format. */
export type FormatVersion = (typeof FORMAT_VERSIONS)[number]

/** What a folder's `config.json` says of one quantized layer; the arrays themselves lie in the safetensors files. */
export type ModuleRecord = VqRecord | ScalarRecord

interface CommonRecord {
  /** rows x cols of the weight that the layer stands for. */
  readonly shape: readonly [rows: number, cols: number]
  /** The weight's dtype before it was quantized. */
  readonly dtype: FloatDtype
  /** Bits of an index or a code per weight, with a trellis on average. */
  readonly bits: number
  /** `L / tr(W H W^T)` on the calibration activations, null when none were used. */
  readonly relative_error: number | null
  /** Only where drift was corrected: how far the weights were moved before they were quantized, as a share of their norm. */
  readonly drift_move?: number
}

/** The record of a layer of vectors and codebooks (GPTVQ). */
export interface VqRecord extends CommonRecord {
  /** Decides how the layer is read. */
  readonly format: 'vq'
  /** Weights per vector. */
  readonly vector_dim: number
  /** Columns that share a codebook. */
  readonly columns_per_group: number
  /** Rows that share a codebook. */
  readonly rows_per_group: number
  /** Bits of a stored codebook element. */
  readonly codebook_bits: 8 | 16
  /** Only of a layer with scales: how many weights of a row share one. */
  readonly scale_block_size?: number
  /** Only of a layer with a trellis: bits of the number of a centroid. */
  readonly key_bits?: number
  /** Only of a layer with a trellis: the name of the constant codebook that its centroids come from. */
  readonly codebook?: typeof CONSTANT_CODEBOOK
  /** Only of a layer whose columns were reordered. */
  readonly permuted?: true
}

/** The record of a layer of codes, scales and zero points (RTN, GPTQ). */
export interface ScalarRecord extends CommonRecord {
  /** Decides how the layer is read. */
  readonly format: 'scalar'
  /** Weights of a row that share a scale and a zero point. */
  readonly group_size: number
}

/** The `quantization_config` of a quantized folder's `config.json`. */
export interface QuantizationConfig {
  /** Always `'gptvq'`, whatever the method. */
  readonly quant_method: typeof QUANT_METHOD
  /** Of the format: 2 where a layer has a trellis, else 1. */
  readonly version: FormatVersion
  /** `'gptvq'`, `'gptq'` or `'rtn'`. */
  readonly method: string
  /** The options the folder was made with. */
  readonly settings: Readonly<Record<string, unknown>>
  /** What it was made of, and by what: hashes of the model and of the calibration text, versions, engine. */
  readonly run?: Readonly<Record<string, unknown>>
  /** How activations are rounded where the model is run; left out: not at all. */
  readonly activations?: StoredActivations
  /** By the name of the weight less `.weight`. */
  readonly modules: Readonly<Record<string, ModuleRecord>>
}

/**
 * Reads the `quantization_config` of a `config.json`; undefined when the model is not quantized.
 *
 * @param where how errors name the file
 * @throws CheckpointError when the model was quantized by another method or a newer version, or a field is impossible
 */
export function parseQuantizationConfig(
  config: Record<string, unknown>,
  where: string,
): QuantizationConfig | undefined {
  const stated = config.quantization_config
  if (stated === undefined || stated === null) return undefined
  const { quant_method, version, method, settings, run, activations, modules } = fieldsOf(
    stated,
    where,
    'quantization_config',
  )
  if (quant_method !== QUANT_METHOD) {
    throw new CheckpointError(
      `${where}: quant_method is ${shownJson(quant_method)}, expected "${QUANT_METHOD}" or no quantization_config. ` +
        'Give the model as it was before another tool quantized it',
    )
  }
  if (version !== 1 && version !== 2) {
    throw new CheckpointError(
      `${where}: the quantized format has version ${shownJson(version)}, this release reads ` +
        `${FORMAT_VERSIONS.join(' and ')}; ` +
        'use a newer release of gptvq',
    )
  }
  const records = new Map<string, ModuleRecord>()
  for (const [name, record] of Object.entries(fieldsOf(modules, where, 'modules'))) {
    const parsed = parseRecord(fieldsOf(record, where, name), `${where}: ${name}`)
    if (versionOf([parsed]) > version)
      throw damaged(where, 'version', version, `2, since ${name} has a trellis`)
    records.set(name, parsed)
  }
  return {
    quant_method,
    version,
    method: methodName(method, where),
    settings: fieldsOf(settings ?? {}, where, 'settings'),
    ...(run !== undefined && { run: fieldsOf(run, where, 'run') }),
    ...(activations !== undefined && { activations: parseActivations(activations, where) }),
    modules: Object.fromEntries(records),
  }
}

/** The least version by which layers of these records can be read. */
export function versionOf(records: Iterable<ModuleRecord>): FormatVersion {
  for (const record of records) if (record.format === 'vq' && record.key_bits !== undefined) return 2
  return 1
}

function parseRecord(record: Record<string, unknown>, where: string): ModuleRecord {
  const whole = (field: string, value: unknown, most = Number.MAX_SAFE_INTEGER): number => {
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 1 && value <= most) return value
    throw damaged(where, field, value, `a whole number from 1${most < 2 ** 53 - 1 ? ` to ${most}` : ''}`)
  }
  const { shape, dtype, relative_error: error = null, drift_move: move } = record
  if (!Array.isArray(shape) || shape.length !== 2) throw damaged(where, 'shape', shape, '[rows, columns]')
  if (typeof dtype !== 'string' || !isDtype(dtype) || !isFloatDtype(dtype)) {
    throw damaged(where, 'dtype', dtype, 'F64, F32, F16 or BF16')
  }
  if (error !== null && !isMeasured(error))
    throw damaged(where, 'relative_error', error, 'a number from 0, or null')
  if (move !== undefined && !isMeasured(move)) throw damaged(where, 'drift_move', move, 'a number from 0')
  const common = {
    shape: [whole('shape', shape[0]), whole('shape', shape[1])] as const,
    dtype,
    relative_error: error,
    ...(move !== undefined && { drift_move: move }),
  }
  if (record.format === 'scalar') {
    return {
      format: 'scalar',
      ...common,
      bits: whole('bits', record.bits, 8),
      group_size: whole('group_size', record.group_size),
    }
  }
  if (record.format !== 'vq') throw damaged(where, 'format', record.format, '"vq" or "scalar"')
  const isTrellis = record.key_bits !== undefined
  const vectorDim = whole('vector_dim', record.vector_dim, 16)
  if (isTrellis && ![1, 2, 4].includes(vectorDim)) throw damaged(where, 'vector_dim', vectorDim, '1, 2 or 4')
  const bits = isTrellis ? meanBits(record.bits, where) : whole('bits', record.bits, 8)
  if (!isTrellis) whole('bits times vector_dim', bits * vectorDim, 16)
  const columns = whole('columns_per_group', record.columns_per_group)
  if (columns % vectorDim !== 0)
    throw damaged(where, 'columns_per_group', columns, `a multiple of ${vectorDim}`)
  const codebookBits = record.codebook_bits
  if (codebookBits !== 8 && codebookBits !== 16)
    throw damaged(where, 'codebook_bits', codebookBits, '8 or 16')
  if (isTrellis && codebookBits !== 8)
    throw damaged(where, 'codebook_bits', codebookBits, '8, since the layer has a trellis')
  return {
    format: 'vq',
    ...common,
    bits,
    vector_dim: vectorDim,
    columns_per_group: columns,
    rows_per_group: whole('rows_per_group', record.rows_per_group),
    codebook_bits: codebookBits,
    ...(record.scale_block_size !== undefined && {
      scale_block_size: whole('scale_block_size', record.scale_block_size),
    }),
    ...(isTrellis && {
      key_bits: whole('key_bits', record.key_bits, MOST_KEY_BITS),
      codebook: constantName(record.codebook, where),
    }),
    ...(isPermuted(record.permuted, where) && { permuted: true }),
  }
}

function isMeasured(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0
}

function methodName(value: unknown, where: string): string {
  if (typeof value === 'string') return value
  throw damaged(where, 'method', value, '"gptvq", "gptq" or "rtn"')
}

function meanBits(value: unknown, where: string): number {
  if (typeof value === 'number' && value > 0 && value <= MOST_KEY_BITS) return value
  throw damaged(where, 'bits', value, `a number above 0, at most ${MOST_KEY_BITS}`)
}

function constantName(value: unknown, where: string): typeof CONSTANT_CODEBOOK {
  if (value === CONSTANT_CODEBOOK) return value
  throw damaged(where, 'codebook', value, `"${CONSTANT_CODEBOOK}"`)
}

function isPermuted(value: unknown = false, where: string): boolean {
  if (typeof value === 'boolean') return value
  throw damaged(where, 'permuted', value, 'true or false')
}

function fieldsOf(value: unknown, where: string, field: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>
  throw damaged(where, field, value, 'an object')
}

function damaged(where: string, field: string, found: unknown, expected: string): CheckpointError {
  return new CheckpointError(
    `${where}: ${field} is ${shownJson(found)}, expected ${expected}. ` +
      'The file was changed or damaged; quantize the model again',
  )
}
