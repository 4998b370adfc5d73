import * as tf from '@tensorflow/tfjs-core'
import { NumericError, ShapeError } from '../errors.js'
import type { LlamaHead } from './head.js'
import { type HeadPart, headParts } from './head-parts.js'
import { takeFloats } from './ops/tensors/take-floats.js'

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
  const sum = await sumOverParts(head, teacher, student, async ({ first, of }, onLogits) => {
    gradient.set(await head.backward(of(student), onLogits), first * head.hiddenSize)
  })
  return { divergence: sum, gradient }
}

/** Sums the divergence; `onPart` is handed the gradient on the student's logits of each part. */
async function sumOverParts(
  head: LlamaHead,
  teacher: Float32Array,
  student: Float32Array,
  onPart: (part: HeadPart, onLogits: tf.Tensor2D) => Promise<void>,
): Promise<number> {
  if (teacher.length !== student.length) {
    throw new ShapeError(
      `the teacher's hidden states have ${teacher.length} values, the student's ${student.length}; ` +
        'expected as many, of the same text',
    )
  }
  let sum = 0
  for (const part of headParts(head, student)) {
    const expected = await head.logitsTensor(part.of(teacher))
    const actual = await head.logitsTensor(part.of(student))
    const { onLogits, divergences } = tf.tidy(() => compare(expected, actual))
    tf.dispose([expected, actual])
    try {
      const values = await takeFloats(divergences)
      assertFinite(values, part.first)
      for (const value of values) sum += value
      await onPart(part, onLogits)
    } finally {
      onLogits.dispose()
    }
  }
  return sum
}

/** The divergence at each position, and its gradient on the actual logits. */
function compare(expected: tf.Tensor2D, actual: tf.Tensor2D) {
  const known = tf.softmax(expected)
  const predicted = tf.softmax(actual)
  const gaps = tf.sum(tf.mul(known, tf.sub(expected, actual)), -1)
  return {
    divergences: tf.add(gaps, tf.sub(logSums(actual, predicted), logSums(expected, known))),
    onLogits: tf.sub<tf.Tensor2D>(predicted, known),
  }
}

/** `log(sum(exp(logits)))` of each row: what its largest logit exceeds the logarithm of its probability by. */
function logSums(logits: tf.Tensor2D, probabilities: tf.Tensor2D): tf.Tensor {
  return tf.sub(tf.max(logits, -1), tf.log(tf.max(probabilities, -1)))
}

function assertFinite(divergences: Float32Array, first: number): void {
  const at = divergences.findIndex((value) => !Number.isFinite(value))
  if (at < 0) return
  throw new NumericError(
    `hidden state ${first + at}: the divergence of its predictions is ${divergences[at]}; expected a finite number. ` +
      'A logit is not finite: the weights are damaged, or the hidden states overflow',
  )
}
