import { CheckpointError, OptionError } from '../common/errors.js'
import type { FoundModel } from './prepare.js'

/**
 * The teacher's blocks that a student's stand for: what a student's block gives is compared with what the teacher has after
 * that one. A block that was kept stands for itself and the blocks left out behind it, so that the next one reads what it is
 * used to, and the last gives what the head reads. Blocks of a model of its own stand for runs of equal length.
 *
 * @param kept the teacher's blocks that the student was made of; undefined for a model of its own
 * @returns one for each of the student's blocks
 * @throws OptionError for kept blocks in another order than the teacher's
 * @throws CheckpointError when the two have no hidden states to compare
 */
export function comparedBlocks(
  teacher: FoundModel,
  student: FoundModel,
  kept: readonly number[] | undefined,
): number[] {
  const [own, others] = [student.config.blocks.length, teacher.config.blocks.length]
  const [size, needed] = [teacher.config.hiddenSize, student.config.hiddenSize]
  if (size !== needed || own > others) {
    throw new CheckpointError(
      `${teacher.folder}: the teacher has ${others} blocks and a hidden size of ${size}, the student ${student.folder} ` +
        `${own} and ${needed}; to compare hidden states (hiddenWeight) it needs the same size and at least as many ` +
        'blocks. Choose another teacher, or leave hiddenWeight out',
    )
  }
  if (kept === undefined) {
    return Array.from({ length: own }, (_, i) => Math.floor(((i + 1) * others) / own) - 1)
  }
  if (kept.some((block, i) => i > 0 && block < kept[i - 1])) {
    throw new OptionError(
      'keepBlocks',
      `expected rising numbers where hidden states are compared (hiddenWeight), got ${kept.join(', ')}`,
    )
  }
  return [...kept.slice(1), others].map((next) => next - 1)
}
