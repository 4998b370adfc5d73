import { CheckpointError, TextError } from '../common/errors.js'
import type { Pause } from '../common/event-loop.js'
import type { DecoderDescription } from '../model/decoder/description.js'
import { openEmbedding } from '../model/decoder/embedding.js'
import { openHead } from '../model/decoder/head.js'
import type { WeightSource } from '../model/decoder/weights.js'
import { gatherCalibration } from '../pipeline/calibrate/calibration.js'
import { forwardBlocks } from './loop/passes.js'
import { joinTokens, type Teacher } from './loop/run-training.js'
import { type Split, splitSequences } from './loop/sequences.js'
import type { TrainingOptions } from './options.js'

/** A model and where it lies. */
export interface FoundModel {
  readonly folder: string
  readonly source: WeightSource
  readonly config: DecoderDescription
}

/** The text of a training. */
export interface TrainingText {
  readonly sequences: readonly Int32Array[]
  readonly split: Split
  /** What a person should know of how they were chosen. */
  readonly notes: readonly string[]
}

/** Cuts the text into sequences and holds some of them out. @throws TextError when there are fewer than two */
export async function prepareText(
  options: TrainingOptions,
  { folder, source, config }: FoundModel,
  heldOut: number,
): Promise<TrainingText> {
  if (options.text === undefined || options.text === null) {
    throw new TextError(
      'text: expected a text to train on: the path of a file, { text }, { tokens } or { sequences }',
    )
  }
  const { text: calibration, sequences: count, sequenceLength, seed, signal } = options
  const chosen = { calibration, sequences: count, sequenceLength, seed }
  const { sequences, notes } = await gatherCalibration(chosen, folder, source, config, () => {}, signal)
  return { sequences, split: splitSequences(sequences, heldOut), notes }
}

/**
 * Runs the teacher over all sequences. Dispose of its head.
 *
 * @param compared blocks after which its hidden states are kept, rising
 */
export async function openTeacher(
  { source, config }: FoundModel,
  sequences: readonly Int32Array[],
  compared: readonly number[],
  pause: Pause,
): Promise<Teacher> {
  const embed = await openEmbedding(source, config)
  const { length } = sequences[0]
  const embedded = await embed(joinTokens(sequences))
  const afterBlock: Float32Array[] = []
  const hidden = await forwardBlocks({ source, config }, embedded, length, pause, (index, input) => {
    if (compared.includes(index - 1)) afterBlock.push(input)
  })
  if (compared.includes(config.blocks.length - 1)) afterBlock.push(hidden)
  return { hidden, head: await openHead(source, config), afterBlock }
}

/**
 * @throws CheckpointError when teacher and student do not have one vocabulary, or the teacher's context is too short
 */
export function requireOneVocabulary(teacher: FoundModel, student: FoundModel): void {
  const [expected, found] = [student.config.vocabSize, teacher.config.vocabSize]
  if (expected !== found) {
    throw new CheckpointError(
      `${teacher.folder}: the teacher's vocabulary has ${found} tokens, that of the student ${student.folder} ${expected} ` +
        '(vocab_size); expected the same. Choose a teacher of the same family and tokenizer',
    )
  }
  const [longest, needed] = [teacher.config.maxPositions, student.config.maxPositions]
  if (longest < needed) {
    throw new CheckpointError(
      `${teacher.folder}: the teacher's context has ${longest} tokens, that of the student ${student.folder} ${needed} ` +
        '(max_position_embeddings); choose a teacher that reads as much',
    )
  }
}
