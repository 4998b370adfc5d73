import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { basename } from 'node:path'
import type { Checkpoint } from '../../checkpoint/checkpoint.js'
import { fileError, systemErrorCode } from '../../checkpoint/file-errors.js'
import { throwIfAborted } from '../../common/errors.js'
import { bytesOf } from '../../common/view-bytes.js'
import { kernels } from '../../kernels/kernels.js'
import type { StartedEngine } from '../../model/ops/engine.js'
import type { CalibrationOptions } from '../calibrate/calibration.js'
import { refusePipe, unreadableText } from '../calibrate/text-file.js'
import type { OutputOptions } from '../folders/output.js'
import { packageVersion } from '../folders/package-version.js'

/** What a run was made of, beside its settings: enough to make the same bytes again, or to see why others came out. */
export type RunRecord = {
  /** The command that was run, where it is not `quantize`. */
  readonly command?: 'quantize-tensors' | 'train'
  /** The options that were given; what is not among them had its default. */
  readonly options: Readonly<Record<string, unknown>>
  /** Of this package. */
  readonly version: string
  /** Of Node. Another one may round the last digit of a logarithm differently. */
  readonly node: string
  /** What ran the forward pass, null for a method without calibration. */
  readonly engine: StartedEngine | null
  /** The build of the kernels: `'relaxed'` multiplies and adds at once. */
  readonly kernels: string
  /** What multiplied matrices: `'wasm'`, or `'blas'` with the library's name. Records before 0.2 have none: `'wasm'`. */
  readonly products: string
  /** SHA-256 of the weights files that were quantized, one after the other by name. */
  readonly weights: string
  /** SHA-256 of the weights files of the quantized folder that training began with, where there was one. */
  readonly start?: string
  /** SHA-256 of the weights files of the model that was learned from, where it was another. */
  readonly teacher?: string
  /** Where calibration came from, null for a method without. */
  readonly calibration: {
    /** A text, token ids, sequences of token ids, or text that the model wrote. */
    readonly kind: 'text' | 'tokens' | 'sequences' | 'own'
    /** The name of the file, without its folder. */
    readonly file?: string
    /** SHA-256 of the text as UTF-8, or of the ids as little-endian int32. */
    readonly sha256?: string
  } | null
}

/** Gathers the record of a run; reads all weights once. */
export async function runRecord(
  checkpoint: Checkpoint,
  options: OutputOptions & CalibrationOptions,
  { engine, products, command }: Pick<RunRecord, 'engine' | 'products' | 'command'>,
  signal: AbortSignal | undefined,
): Promise<RunRecord> {
  return {
    ...(command && { command }),
    options: givenOptions(options),
    version: await packageVersion(),
    node: process.versions.node,
    engine,
    kernels: kernels().name,
    products,
    weights: await digestOfWeights(checkpoint, signal),
    calibration: engine === null ? null : await calibrationRecord(options.calibration, signal),
  }
}

/** Neither files nor what belongs to the process. */
const APART: ReadonlySet<string> = new Set(
  'model output method calibration text checkpoint engine products threads redis shared force resume unfinished memory signal onProgress onLayer'.split(
    ' ',
  ),
)

function givenOptions(options: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(options).filter(([option, value]) => !APART.has(option) && value !== undefined),
  )
}

async function calibrationRecord(
  calibration: CalibrationOptions['calibration'],
  signal: AbortSignal | undefined,
): Promise<RunRecord['calibration']> {
  if (calibration === undefined) return { kind: 'own' }
  if (typeof calibration === 'string') {
    return { kind: 'text', file: basename(calibration), sha256: await digestOfText(calibration, signal) }
  }
  if ('text' in calibration) return { kind: 'text', sha256: digestOf([Buffer.from(calibration.text)]) }
  if ('tokens' in calibration) return { kind: 'tokens', sha256: digestOf([bytesOf(calibration.tokens)]) }
  return { kind: 'sequences', sha256: digestOf(calibration.sequences.map(bytesOf)) }
}

async function digestOfFiles(paths: readonly string[], signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash('sha256')
  for (const path of paths) {
    for await (const bytes of createReadStream(path, { highWaterMark: 2 ** 20 })) {
      hash.update(bytes)
      throwIfAborted(signal)
    }
  }
  return hash.digest('hex')
}

/** SHA-256 of the files that the tensors of a checkpoint are in, one after the other by name. */
export async function digestOfWeights(
  { tensors, folder }: Pick<Checkpoint, 'tensors' | 'folder'>,
  signal: AbortSignal | undefined,
): Promise<string> {
  const files = new Set(Array.from(tensors.values(), ({ file }) => file))
  try {
    return await digestOfFiles([...files].sort(), signal)
  } catch (error) {
    throw fileError(`cannot read the weights of ${folder}`, error)
  }
}

/** @throws TextError as the reading of the text itself, which comes later */
async function digestOfText(path: string, signal: AbortSignal | undefined): Promise<string> {
  await refusePipe(path)
  try {
    return await digestOfFiles([path], signal)
  } catch (error) {
    throw systemErrorCode(error) === undefined ? error : unreadableText(path, error)
  }
}

function digestOf(parts: readonly Uint8Array[]): string {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}
