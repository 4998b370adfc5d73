import { ShapeError } from '../../errors.js'
import { forwardKernels } from '../../kernels/forward-kernels.js'
import type { Head } from '../decoder/head.js'
import { headParts } from './head-parts.js'
import { logSums } from './prediction-loss.js'

/**
 * The mean KL(full || changed) in nats per position of models that differ in their blocks alone.
 *
 * @param full the final hidden states of the model that they are held against, positions x hiddenSize
 * @param changed those of each of the others
 * @throws ShapeError when they are not of one shape
 * @throws NumericError when a logit is NaN or infinite
 */
export async function meanDivergences(
  head: Head,
  full: Float32Array,
  changed: readonly Float32Array[],
): Promise<number[]> {
  for (const { length } of changed) {
    if (length !== full.length) {
      throw new ShapeError(`hidden states of ${full.length} and ${length} values; expected as many`)
    }
  }
  const { vocabSize } = head
  const sums = changed.map(() => 0)
  let positions = 0
  for (const { first, count, of } of headParts(head, full)) {
    const { allocate, compare, release } = forwardKernels()
    const [expected, actual] = [allocate(count * vocabSize), allocate(count * vocabSize)]
    try {
      await head.logits(of(full), expected)
      const expectedLogSums = logSums(expected, count, vocabSize, first)
      for (const [i, hidden] of changed.entries()) {
        await head.logits(of(hidden), actual)
        const actualLogSums = logSums(actual, count, vocabSize, first)
        const gaps = compare(count, vocabSize, expected, actual, expectedLogSums)
        for (let row = 0; row < count; row++) sums[i] += gaps[row] + actualLogSums[row] - expectedLogSums[row]
      }
    } finally {
      release(expected)
      release(actual)
    }
    positions += count
  }
  // of no change, rounding may leave a little less than nothing
  return sums.map((sum) => Math.max(0, sum / positions))
}
