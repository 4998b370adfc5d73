import { NumericError, ShapeError } from '../../errors.js'
import { forwardKernels } from '../../kernels/forward-kernels.js'
import type { Head } from '../decoder/head.js'
import { headGradient } from './backward.js'
import { type HeadPart, headParts } from './head-parts.js'

/**
 * How far a student's predictions are from a teacher's: KL(teacher || student), in nats, summed over the positions.
 *
 * @param head of both models
 * @param teacher the teacher's final hidden states, positions x hiddenSize
 * @param student the student's, of the same shape
 * @throws ShapeError when the arrays do not fit together
 * @throws NumericError when a logit is NaN or infinite
 */
export async function divergence(head: Head, teacher: Float32Array, student: Float32Array): Promise<number> {
  return sumOverParts(head, teacher, student, async () => {})
}

/**
 * The same with its gradient on the student's hidden states: that on the logits is the difference of the
 * probabilities, the student's less the teacher's.
 *
 * @returns the sum, and the gradient, positions x hiddenSize
 * @throws ShapeError, NumericError as {@link divergence}
 */
export async function divergenceGradient(
  head: Head,
  teacher: Float32Array,
  student: Float32Array,
): Promise<{ divergence: number; gradient: Float32Array }> {
  const gradient = new Float32Array(student.length)
  const sum = await sumOverParts(head, teacher, student, async ({ first, of }, predictions) => {
    const onLogits = probabilityGaps(predictions, head.vocabSize)
    gradient.set(await headGradient(head, of(student), onLogits), first * head.hiddenSize)
  })
  return { divergence: sum, gradient }
}

/** Logits of teacher and student for some positions, and the logarithms of the sums of their exponentials. */
interface PairOfPredictions {
  readonly expected: Float32Array
  readonly actual: Float32Array
  readonly expectedLogSums: Float64Array
  readonly actualLogSums: Float64Array
}

/** Sums the divergence; `onPart` is handed the predictions of each part. */
async function sumOverParts(
  head: Head,
  teacher: Float32Array,
  student: Float32Array,
  onPart: (part: HeadPart, predictions: PairOfPredictions) => Promise<void>,
): Promise<number> {
  if (teacher.length !== student.length) {
    throw new ShapeError(
      `the teacher's hidden states have ${teacher.length} values, the student's ${student.length}; ` +
        'expected as many, of the same text',
    )
  }
  const { allocate, release, compare } = forwardKernels()
  const { vocabSize } = head
  let sum = 0
  for (const part of headParts(head, student)) {
    const { first, count, of } = part
    const [expected, actual] = [allocate(count * vocabSize), allocate(count * vocabSize)]
    try {
      await head.logits(of(teacher), expected)
      await head.logits(of(student), actual)
      const expectedLogSums = logSums(expected, count, vocabSize, first)
      const actualLogSums = logSums(actual, count, vocabSize, first)
      const gaps = compare(count, vocabSize, expected, actual, expectedLogSums)
      for (let i = 0; i < count; i++) sum += gaps[i] + actualLogSums[i] - expectedLogSums[i]
      await onPart(part, { expected, actual, expectedLogSums, actualLogSums })
    } finally {
      release(expected)
      release(actual)
    }
  }
  return sum
}

/**
 * `log(sum(exp(logits)))` of each row of logits in the kernels' memory.
 *
 * @param first the number of the first row, for errors
 * @throws NumericError when a logit is NaN or infinite
 */
export function logSums(logits: Float32Array, count: number, vocabSize: number, first: number): Float64Array {
  const { sums, tops } = forwardKernels().predict(count, vocabSize, logits)
  const bad = tops.indexOf(-1)
  if (bad >= 0) {
    throw new NumericError(
      `hidden state ${first + bad}: a logit of its predictions is not finite. The weights are damaged, or the hidden ` +
        'states overflow',
    )
  }
  return sums.map((sum, i) => Math.log(sum) + logits[i * vocabSize + tops[i]])
}

/** The student's probabilities less the teacher's. */
function probabilityGaps(
  { expected, actual, expectedLogSums, actualLogSums }: PairOfPredictions,
  vocabSize: number,
): Float32Array {
  const gaps = new Float32Array(expectedLogSums.length * vocabSize)
  for (let row = 0; row < expectedLogSums.length; row++) {
    for (let at = row * vocabSize; at < (row + 1) * vocabSize; at++) {
      gaps[at] = Math.exp(actual[at] - actualLogSums[row]) - Math.exp(expected[at] - expectedLogSums[row])
    }
  }
  return gaps
}
