import { pacer } from '../common/event-loop.js'
import { openHead } from '../model/decoder/head.js'
import { type PartProgress, partOf } from '../pipeline/progress.js'
import type { TrainingCurve } from './loop/report.js'
import { type LoopState, runTraining, type TrainingWork } from './loop/run-training.js'
import { readState, writeState } from './loop/state-file.js'
import { orStateKept } from './loop/state-place.js'
import { openStudent } from './loop/student.js'
import { type TrainingOrigins, trainingIdentity } from './loop/training-identity.js'
import type { TrainingOptions, TrainingSettings } from './options.js'
import { type FoundModel, openTeacher, type TrainingText } from './prepare.js'
import type { Trainable } from './weights/trainable.js'

/** Everything that a training is made of. */
export interface StudentTraining {
  /** What is not trained of the student. */
  readonly student: FoundModel
  /** By the name of the tensor. */
  readonly trained: ReadonlyMap<string, Trainable>
  /** Undefined: cross entropy alone. */
  readonly teacher: FoundModel | undefined
  /** The teacher's blocks that the student's stand for; empty where hidden states do not count. */
  readonly compared: readonly number[]
  readonly text: TrainingText
  readonly settings: TrainingSettings & { readonly rechooseEvery?: number | undefined }
  /** What a state that is gone on from must have been begun with; only asked for with a `checkpoint`. */
  readonly origins: () => Promise<TrainingOrigins>
  /** Share of the whole work that is done before; for progress only. */
  readonly progressFrom: number
}

/** Runs the loop, from where a training that was stopped left its state; what is trained ends as it did best. */
export async function trainStudent(
  training: StudentTraining,
  { checkpoint, onProgress, signal }: Pick<TrainingOptions, 'checkpoint' | 'onProgress' | 'signal'>,
): Promise<TrainingCurve> {
  const { student: model, trained, teacher: teacherModel, compared, settings, progressFrom } = training
  const { sequences, split } = training.text
  const pause = pacer(signal)
  const inLoop: PartProgress = partOf(onProgress, progressFrom, 1)
  const student = await openStudent(model.source, model.config, trained, settings.weightDecay)
  const head = await openHead(model.source, model.config)
  const teacher = teacherModel && (await openTeacher(teacherModel, sequences, compared, pause))
  try {
    const work: TrainingWork = { student, head, sequences, split, teacher, pause, onProgress: inLoop }
    if (checkpoint === undefined) return await runTraining(work, loopSettings(settings))
    const identity = trainingIdentity(student, settings, sequences, await training.origins())
    const from = await readState(checkpoint, identity, student)
    const keep = (state: LoopState) => writeState(checkpoint, identity, student, state)
    return await orStateKept(checkpoint, () => runTraining(work, loopSettings(settings), from, keep))
  } finally {
    head.dispose()
    teacher?.head.dispose()
  }
}

function loopSettings(settings: StudentTraining['settings']) {
  return { ...settings, rechooseEvery: settings.rechooseEvery }
}
