import { NumericError, ShapeError } from '../../common/errors.js'
import { forwardKernels } from '../../kernels/forward-kernels.js'
import type { Head } from '../decoder/head.js'
import { headGradient } from './backward.js'
import { type HeadPart, headParts } from './head-parts.js'

/** What the predictions of a model are held against. */
export interface PredictionTargets {
  /** The token that follows each position, -1 where none does: for the cross entropy. */
  readonly next?: Int32Array
  /** A model of the same vocabulary, and its final hidden states for the same positions: for the divergence. */
  readonly teacher?: { readonly head: Head; readonly hidden: Float32Array }
}

/** One number for each kind of loss. */
export interface LossTerms {
  /** `-log p(next token)`, in nats, over the positions that have one. */
  readonly crossEntropy: number
  /** `KL(teacher || model)`, in nats, over all positions. */
  readonly divergence: number
}

/**
 * How well a model predicts, summed over the positions; 0 for what there is no target for.
 *
 * @param hidden the model's final hidden states, positions x hiddenSize
 * @throws ShapeError when the arrays do not fit together
 * @throws NumericError when a logit is NaN or infinite
 */
export function predictionLoss(
  head: Head,
  hidden: Float32Array,
  targets: PredictionTargets,
): Promise<LossTerms> {
  return sumOverParts(head, hidden, targets, async () => {})
}

/**
 * The same with the gradient of a sum of both kinds on the hidden states. That on the logits of a position is the
 * difference of probabilities: the model's less the teacher's, and the model's less 1 at the token that follows.
 *
 * @param factors what the terms of a position count in the gradient
 * @returns the sums, without the factors, and the gradient, positions x hiddenSize
 * @throws ShapeError, NumericError as {@link predictionLoss}
 */
export async function predictionLossGradient(
  head: Head,
  hidden: Float32Array,
  targets: PredictionTargets,
  factors: LossTerms,
): Promise<LossTerms & { readonly gradient: Float32Array }> {
  const gradient = new Float32Array(hidden.length)
  const sums = await sumOverParts(head, hidden, targets, async ({ first, of }, predictions) => {
    const onLogits = probabilityGaps(predictions, head.vocabSize, factors)
    gradient.set(await headGradient(head, of(hidden), onLogits), first * head.hiddenSize)
  })
  return { ...sums, gradient }
}

/** Logits of a model, and of its teacher, for some positions, and the logarithms of the sums of their exponentials. */
interface Predictions {
  readonly actual: Float32Array
  readonly actualLogSums: Float64Array
  readonly expected?: { readonly logits: Float32Array; readonly logSums: Float64Array }
  readonly next?: Int32Array
}

async function sumOverParts(
  head: Head,
  hidden: Float32Array,
  { next, teacher }: PredictionTargets,
  onPart: (part: HeadPart, predictions: Predictions) => Promise<void>,
): Promise<LossTerms> {
  requireFit(head, hidden, { next, teacher })
  const { allocate, release } = forwardKernels()
  const { vocabSize } = head
  let crossEntropy = 0
  let divergence = 0
  for (const part of headParts(head, hidden)) {
    const { first, count, of } = part
    const actual = allocate(count * vocabSize)
    const expected = teacher && allocate(count * vocabSize)
    try {
      await head.logits(of(hidden), actual)
      const actualLogSums = logSums(actual, count, vocabSize, first)
      const following = next?.subarray(first, first + count)
      if (following) crossEntropy += entropyOf(actual, actualLogSums, following, vocabSize)
      if (teacher === undefined || expected === undefined) {
        await onPart(part, { actual, actualLogSums, next: following })
        continue
      }
      const width = teacher.head.hiddenSize
      await teacher.head.logits(teacher.hidden.subarray(first * width, (first + count) * width), expected)
      const expectedLogSums = logSums(expected, count, vocabSize, first)
      const gaps = forwardKernels().compare(count, vocabSize, expected, actual, expectedLogSums)
      for (let i = 0; i < count; i++) divergence += gaps[i] + actualLogSums[i] - expectedLogSums[i]
      const known = { logits: expected, logSums: expectedLogSums }
      await onPart(part, { actual, actualLogSums, expected: known, next: following })
    } finally {
      release(actual)
      if (expected) release(expected)
    }
  }
  return { crossEntropy, divergence }
}

function requireFit(head: Head, hidden: Float32Array, { next, teacher }: PredictionTargets): void {
  const positions = hidden.length / head.hiddenSize
  if (teacher && teacher.head.vocabSize !== head.vocabSize) {
    throw new ShapeError(
      `the teacher predicts ${teacher.head.vocabSize} tokens, the student ${head.vocabSize}; expected one vocabulary`,
    )
  }
  if (teacher && teacher.hidden.length !== positions * teacher.head.hiddenSize) {
    throw new ShapeError(
      `the teacher's hidden states have ${teacher.hidden.length} values, the student's ${hidden.length}; ` +
        'expected as many positions, of the same text',
    )
  }
  if (next && next.length !== positions) {
    throw new ShapeError(`${positions} positions, ${next.length} tokens that follow; expected as many`)
  }
}

function entropyOf(logits: Float32Array, logSums: Float64Array, next: Int32Array, vocabSize: number): number {
  let sum = 0
  next.forEach((token, row) => {
    if (token >= 0) sum += logSums[row] - logits[row * vocabSize + token]
  })
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

/** The gradient on the logits of some positions. */
function probabilityGaps(
  { actual, actualLogSums, expected, next }: Predictions,
  vocabSize: number,
  { crossEntropy, divergence }: LossTerms,
): Float32Array {
  const gaps = new Float32Array(actualLogSums.length * vocabSize)
  for (let row = 0; row < actualLogSums.length; row++) {
    const start = row * vocabSize
    const following = next?.[row] ?? -1
    const ofTeacher = expected ? divergence : 0
    const own = ofTeacher + (following < 0 ? 0 : crossEntropy)
    for (let at = start; at < start + vocabSize; at++) {
      // in float64 up to here: equal predictions leave nothing
      const gap = own * Math.exp(actual[at] - actualLogSums[row])
      gaps[at] = expected ? gap - ofTeacher * Math.exp(expected.logits[at] - expected.logSums[row]) : gap
    }
    if (following >= 0) gaps[start + following] -= crossEntropy
  }
  return gaps
}
