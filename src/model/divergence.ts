import { ShapeError } from '../errors.js'
import type { LlamaHead } from './head.js'
import { headParts } from './head-parts.js'
import { probabilitiesOf } from './probabilities.js'

/**
 * How far a student's predictions are from a teacher's: KL(teacher || student), in nats, summed over the positions.
 *
 * @param head of both models
 * @param teacher the teacher's final hidden states, positions x hiddenSize
 * @param student the student's, of the same shape
 * @throws ShapeError when the arrays do not fit together
 * @throws NumericError when a logit is NaN or infinite
 */
export async function divergence(
  head: LlamaHead,
  teacher: Float32Array,
  student: Float32Array,
): Promise<number> {
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
  head: LlamaHead,
  teacher: Float32Array,
  student: Float32Array,
): Promise<{ divergence: number; gradient: Float32Array }> {
  const gradient = new Float32Array(student.length)
  const sum = await sumOverParts(head, teacher, student, async (first, states, onLogits) => {
    gradient.set(await head.backward(states, onLogits), first * head.hiddenSize)
  })
  return { divergence: sum, gradient }
}

/** Sums the divergence; `onPart` is handed the student's hidden states of each part, and the gradient on their logits. */
async function sumOverParts(
  head: LlamaHead,
  teacher: Float32Array,
  student: Float32Array,
  onPart: (first: number, states: Float32Array, onLogits: Float32Array) => Promise<void>,
): Promise<number> {
  if (teacher.length !== student.length) {
    throw new ShapeError(
      `the teacher's hidden states have ${teacher.length} values, the student's ${student.length}; ` +
        'expected as many, of the same text',
    )
  }
  const { vocabSize } = head
  const expected = new Float64Array(vocabSize)
  const actual = new Float64Array(vocabSize)
  let sum = 0
  for (const part of headParts(head, student)) {
    const teacherLogits = await head.logits(part.of(teacher))
    const logits = await head.logits(part.of(student))
    for (let i = 0; i < part.count; i++) {
      const at = i * vocabSize
      const known = teacherLogits.subarray(at, at + vocabSize)
      const row = logits.subarray(at, at + vocabSize)
      const knownLogSum = probabilitiesOf(known, expected, part.first + i)
      const logSum = probabilitiesOf(row, actual, part.first + i)
      let gap = 0
      for (let token = 0; token < vocabSize; token++) {
        gap += expected[token] * (known[token] - row[token])
        row[token] = actual[token] - expected[token]
      }
      sum += gap + logSum - knownLogSum
    }
    await onPart(part.first, part.of(student), logits)
  }
  return sum
}
