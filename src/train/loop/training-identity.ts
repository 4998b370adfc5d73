import { createHash } from 'node:crypto'
import { OptionError } from '../../common/errors.js'
import { bytesOf } from '../../common/view-bytes.js'
import { differencesOf } from '../../pipeline/resume/differences.js'
import type { Student } from './student.js'

/** What a training was given beside its text, each as a SHA-256. */
export interface TrainingOrigins {
  /** Of the weights of what is trained: of a quantized model those in full. */
  readonly model: string
  /** Of the quantized layers that training starts from; undefined where there are none. */
  readonly start?: string
  /** Of the weights of the teacher; undefined where there is none. */
  readonly teacher?: string | undefined
}

/** All that a training comes to depends on. */
export interface TrainingIdentity {
  /** Of plain data. */
  readonly settings: object
  /** SHA-256 of the tokens. */
  readonly text: string
  /** SHA-256 of what the parameters start from, and of all that stays as it is there. */
  readonly start: string
  /** SHA-256 of the weights of what is trained. */
  readonly model: string
  /** SHA-256 of the teacher's weights, or `'none'`. */
  readonly teacher: string
}

/**
 * What a training is as it begins.
 *
 * @param settings of plain data
 */
export function trainingIdentity(
  student: Student,
  settings: object,
  sequences: readonly Int32Array[],
  { model, start: begun = '', teacher = 'none' }: TrainingOrigins,
): TrainingIdentity {
  const text = createHash('sha256')
  for (const sequence of sequences) text.update(bytesOf(sequence))
  const start = createHash('sha256').update(begun)
  for (const [name, states] of student.states) {
    start.update(name)
    for (const { values } of states) start.update(bytesOf(values))
  }
  return { settings, text: text.digest('hex'), start: start.digest('hex'), model, teacher }
}

/** What to say where one of them is not the same. */
const INPUTS = {
  text: 'another text',
  model: 'another model',
  start: 'other weights to start from',
  teacher: 'another teacher',
} as const satisfies Partial<Record<keyof TrainingIdentity, string>>

/** Names of the inputs that a {@link TrainingIdentity} has digests of. */
export const identityInputs = Object.keys(INPUTS) as (keyof typeof INPUTS)[]

/** @throws OptionError when a state is that of another training, saying in what it differs */
export function requireSameTraining(path: string, before: TrainingIdentity, now: TrainingIdentity): void {
  const differences = differencesOf({ ...before.settings }, { ...now.settings })
  for (const input of identityInputs) if (before[input] !== now[input]) differences.push(INPUTS[input])
  if (differences.length === 0) return
  throw new OptionError(
    'checkpoint',
    `${path} is the state of another training, begun with ${differences.join(', ')}. Give the same again, choose ` +
      'another place for the state, or remove the file',
  )
}
