import { systemErrorCode } from '../../checkpoint/file-errors.js'
import { nodeFileSystem } from '../../checkpoint/file-system.js'
import { isObject } from '../../checkpoint/json-file.js'
import type { SafetensorsFile } from '../../checkpoint/safetensors/safetensors-reader.js'
import { openSafetensors } from '../../checkpoint/sources/open-safetensors.js'
import { CheckpointError } from '../../common/errors.js'
import type { TrainingPoint } from './report.js'
import { identityInputs, type TrainingIdentity } from './training-identity.js'

/** What a state file says beside its tensors. */
export interface StateRecord {
  readonly identity: TrainingIdentity
  readonly step: number
  readonly kept: number
  readonly points: readonly TrainingPoint[]
}

/** The key of the record in the file's metadata. */
export const RECORD_KEY = 'gptvq_training'

/** The record of a state file. @throws CheckpointError when it is none, or damaged */
export function recordOf({ metadata, path }: SafetensorsFile): StateRecord {
  const record = parsed(metadata.get(RECORD_KEY))
  if (isRecord(record)) return record
  throw new CheckpointError(
    `${path}: is no state of a training that this version reads, or is damaged; remove it or choose another place ` +
      '(option checkpoint)',
  )
}

/** The record of the state file at a path. @throws CheckpointError when it is none, or damaged */
export async function readRecord(path: string): Promise<StateRecord> {
  const file = await openSafetensors(path)
  try {
    return recordOf(file)
  } finally {
    await file.close()
  }
}

/** The step that a state file was written after; undefined where there is none that can be read. */
export async function stepOfState(path: string): Promise<number | undefined> {
  try {
    return (await readRecord(path)).step
  } catch {
    return undefined
  }
}

/** Whether anything is at a path. */
export async function isThere(path: string): Promise<boolean> {
  try {
    await nodeFileSystem.stat(path)
    return true
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return false
    throw error
  }
}

function parsed(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? 'null')
  } catch {
    return null
  }
}

/** A state is written right after a measurement, so the last point is that of its step. */
function isRecord(value: unknown): value is StateRecord {
  if (!isObject(value) || !isIdentity(value.identity)) return false
  const { step, kept, points } = value
  if (!Array.isArray(points) || !points.every(isPoint)) return false
  const rises = points.every((point, i) => (i === 0 ? point.step === 0 : point.step > points[i - 1].step))
  return rises && isCount(kept) && kept < points.length && step === points[points.length - 1].step
}

function isIdentity(value: unknown): boolean {
  return isObject(value) && isObject(value.settings) && identityInputs.every((name) => isText(value[name]))
}

function isPoint(value: unknown): value is TrainingPoint {
  if (!isObject(value)) return false
  const { step, training, heldOut, batches } = value
  return isCount(step) && isLoss(training) && isLoss(heldOut) && (batches === null || isLoss(batches))
}

function isLoss(value: unknown): boolean {
  if (!isObject(value)) return false
  const { loss, crossEntropy, divergence, hidden } = value
  return [loss, crossEntropy, divergence, hidden].every(Number.isFinite)
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function isText(value: unknown): boolean {
  return typeof value === 'string'
}
