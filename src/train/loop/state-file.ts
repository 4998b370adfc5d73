import { randomBytes } from 'node:crypto'
import { dirname, resolve } from 'node:path'
import { fileError } from '../../checkpoint/file-errors.js'
import { nodeFileSystem } from '../../checkpoint/file-system.js'
import { createParents, syncEntry } from '../../checkpoint/output/output-folder.js'
import type { SafetensorsFile } from '../../checkpoint/safetensors/safetensors-reader.js'
import { createShardWriter } from '../../checkpoint/safetensors/shard-writer.js'
import { openSafetensors } from '../../checkpoint/sources/open-safetensors.js'
import { CheckpointError } from '../../common/errors.js'
import { bytesOf } from '../../common/view-bytes.js'
import type { Floats } from '../weights/trainable.js'
import type { LoopState } from './run-training.js'
import { isThere, RECORD_KEY, recordOf, type StateRecord } from './state-record.js'
import { type Snapshot, type Student, takeSnapshot } from './student.js'
import { requireSameTraining, type TrainingIdentity } from './training-identity.js'

/**
 * Writes where a training stands; the file that was there before is replaced when the new one is whole.
 *
 * @throws CheckpointError when the disk refuses
 */
export async function writeState(
  path: string,
  identity: TrainingIdentity,
  student: Student,
  { step, kept, points, best }: LoopState,
): Promise<void> {
  const target = resolve(path)
  const partial = `${target}.partial-${randomBytes(4).toString('hex')}`
  const record: StateRecord = { identity, step, kept, points }
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
 * @throws OptionError when it is of another training, saying in what that differs
 * @throws CheckpointError when it is damaged, or cannot be read
 */
export async function readState(
  path: string,
  identity: TrainingIdentity,
  student: Student,
): Promise<LoopState | undefined> {
  if (!(await isThere(path))) return undefined
  const file = await openSafetensors(path)
  try {
    const record = recordOf(file)
    requireSameTraining(path, record.identity, identity)
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
