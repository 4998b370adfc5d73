import { createHash, randomBytes } from 'node:crypto'
import { dirname, resolve } from 'node:path'
import { fileError } from '../../checkpoint/file-errors.js'
import { nodeFileSystem } from '../../checkpoint/file-system.js'
import { createParents, syncEntry } from '../../checkpoint/output/output-folder.js'
import type { SafetensorsFile } from '../../checkpoint/safetensors/safetensors-reader.js'
import { createShardWriter } from '../../checkpoint/safetensors/shard-writer.js'
import { openSafetensors } from '../../checkpoint/sources/open-safetensors.js'
import { CheckpointError } from '../../common/errors.js'
import type { Floats } from '../weights/trainable.js'
import type { TrainingPoint } from './report.js'
import type { LoopState } from './run-training.js'
import { type Snapshot, type Student, takeSnapshot } from './student.js'

/** What a state file says beside its tensors. */
interface StateRecord {
  readonly digest: string
  readonly step: number
  readonly kept: number
  readonly points: readonly TrainingPoint[]
}

/** The key of the record in the file's metadata. */
const RECORD_KEY = 'gptvq_training'

/**
 * A hash of a training as it begins: its settings, its text, and what its parameters start from.
 *
 * @param settings of plain data
 */
export function trainingDigest(student: Student, settings: object, sequences: readonly Int32Array[]): string {
  const hash = createHash('sha256').update(JSON.stringify(settings))
  for (const sequence of sequences) hash.update(bytesOf(sequence))
  for (const [name, states] of student.states) {
    hash.update(name)
    for (const { values } of states) hash.update(bytesOf(values))
  }
  return hash.digest('hex')
}

/**
 * Writes where a training stands; the file that was there before is replaced when the new one is whole.
 *
 * @throws CheckpointError when the disk refuses
 */
export async function writeState(
  path: string,
  digest: string,
  student: Student,
  { step, kept, points, best }: LoopState,
): Promise<void> {
  const target = resolve(path)
  const partial = `${target}.partial-${randomBytes(4).toString('hex')}`
  const record: StateRecord = { digest, step, kept, points }
  try {
    const createdParents = await createParents(nodeFileSystem, dirname(target))
    const writer = await createShardWriter(nodeFileSystem, partial)
    try {
      for (const [name, array] of arraysOf(student, best)) {
        await writer.add({ name, dtype: dtypeOf(array), shape: [array.length] }, bytesOf(array))
      }
      await writer.finish({ [RECORD_KEY]: JSON.stringify(record) })
    } finally {
      await writer.close()
    }
    await nodeFileSystem.rename(partial, target)
    await syncEntry(nodeFileSystem, target, createdParents)
  } catch (error) {
    throw fileError(`cannot write the state of the training to ${path}`, error)
  } finally {
    await nodeFileSystem.rm(partial, { force: true })
    await nodeFileSystem.rm(`${partial}.spill`, { force: true })
  }
}

/**
 * Brings a student to where a state file left it.
 *
 * @returns undefined when there is no such file
 * @throws CheckpointError when it is of another training, or damaged
 */
export async function readState(
  path: string,
  digest: string,
  student: Student,
): Promise<LoopState | undefined> {
  try {
    await nodeFileSystem.stat(path)
  } catch {
    return undefined
  }
  const file = await openSafetensors(path)
  try {
    const record = recordOf(file)
    if (record.digest !== digest) {
      throw new CheckpointError(
        `${path}: is the state of another training: of another model, text or settings. Give the same again, choose ` +
          'another place for the state (checkpoint), or remove the file',
      )
    }
    const { step, kept, points } = record
    // the student's own arrays, so that what is read goes where it belongs
    for (const { choices } of student.trained.values()) choices?.set(choices.values().slice())
    const best = takeSnapshot(student)
    for (const [name, array] of arraysOf(student, best)) {
      bytesOf(array).set(await readExactly(file, name, array.byteLength))
    }
    for (const states of student.states.values()) for (const state of states) state.steps = step
    for (const trainable of student.trained.values()) trainable.refresh()
    return { step, kept, points: points.slice(), best }
  } finally {
    await file.close()
  }
}

/** Removes a state file that is of no more use. */
export async function removeState(path: string): Promise<void> {
  await nodeFileSystem.rm(path, { force: true })
}

type Stored = Floats | Uint16Array

function* arraysOf({ states, trained }: Student, best: Snapshot): Generator<readonly [string, Stored]> {
  for (const [name, own] of states) {
    for (const [i, { values, mean, square }] of own.entries()) {
      yield [`${name}#${i}.values`, values]
      yield [`${name}#${i}.mean`, mean]
      yield [`${name}#${i}.square`, square]
      yield [`${name}#${i}.best`, best.parameters.get(name)![i]]
    }
    const { choices } = trained.get(name)!
    const bestChoices = best.choices.get(name)
    if (choices) yield [`${name}#choices`, choices.values()]
    if (bestChoices) yield [`${name}#choices.best`, bestChoices]
  }
}

function recordOf({ metadata, path }: SafetensorsFile): StateRecord {
  try {
    return JSON.parse(metadata.get(RECORD_KEY) ?? 'none') as StateRecord
  } catch (cause) {
    throw new CheckpointError(`${path}: is no state of a training; remove it or choose another place`, {
      cause,
    })
  }
}

async function readExactly(file: SafetensorsFile, name: string, bytes: number): Promise<Uint8Array> {
  const found = await file.read(name)
  if (found.length === bytes) return found
  throw new CheckpointError(
    `${file.path}: ${name} has ${found.length} bytes, expected ${bytes}; the file is damaged. Remove it, and train anew`,
  )
}

function dtypeOf(array: Stored): 'F32' | 'F64' | 'U16' {
  if (array instanceof Uint16Array) return 'U16'
  return array instanceof Float32Array ? 'F32' : 'F64'
}

function bytesOf({ buffer, byteOffset, byteLength }: Stored | Int32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength)
}
