import { ShapeError } from '../../common/errors.js'
import { forwardKernels } from '../../kernels/forward-kernels.js'
import type { Head } from '../decoder/head.js'
import { type HeadPart, headParts } from './head-parts.js'
import { logSums } from './prediction-loss.js'

/** Bytes of predictions that are kept at most, unless said otherwise. */
export const KEPT_BYTES = 2 ** 28

/** A model's predictions, which those of others are held against. */
export interface Divergences {
  /**
   * The mean KL(full || changed) in nats per position of models that differ in their blocks alone.
   *
   * @param changed the final hidden states of each, positions x hiddenSize
   * @throws ShapeError when they are not as many
   * @throws NumericError when a logit is NaN or infinite
   */
  of(changed: readonly Float32Array[]): Promise<number[]>
  /** Frees their memory; the head stays. */
  dispose(): void
}

/** What a model predicts at some positions. */
interface Expected {
  /** Probabilities, positions x vocabulary, in the kernels' memory. */
  readonly shares: Float32Array
  /** `sum(share * logit) - log(sum(exp(logit)))` of each position: the entropy, less its sign. */
  readonly sums: Float64Array
}

/**
 * Opens the predictions of a model, so that they need not be computed for each comparison.
 *
 * @param full its final hidden states, positions x hiddenSize
 * @param keptBytes of predictions in memory at most; those of further positions are computed at each use
 * @throws ShapeError when there are none, or they are not whole rows
 * @throws NumericError when a logit is NaN or infinite
 */
export async function openDivergences(
  head: Head,
  full: Float32Array,
  keptBytes = KEPT_BYTES,
): Promise<Divergences> {
  const { vocabSize } = head
  const parts = headParts(head, full)
  const kept = new Map<HeadPart, Expected>()

  const withLogits = async (
    { count }: HeadPart,
    use: (logits: Float32Array) => Promise<void>,
  ): Promise<void> => {
    const { allocate, release } = forwardKernels()
    const logits = allocate(count * vocabSize)
    try {
      await use(logits)
    } finally {
      release(logits)
    }
  }
  /** @param logits receives them */
  const logSumsOf = async ({ first, count, of }: HeadPart, hidden: Float32Array, logits: Float32Array) => {
    await head.logits(of(hidden), logits)
    return logSums(logits, count, vocabSize, first)
  }
  const predict = async (part: HeadPart, logits: Float32Array): Promise<Expected> => {
    const { allocate, weigh } = forwardKernels()
    const logs = await logSumsOf(part, full, logits)
    const shares = allocate(logits.length)
    for (let row = 0; row < part.count; row++) {
      const end = (row + 1) * vocabSize
      for (let at = row * vocabSize; at < end; at++) shares[at] = Math.exp(logits[at] - logs[row])
    }
    const sums = weigh(part.count, vocabSize, shares, logits).map((sum, row) => sum - logs[row])
    return { shares, sums }
  }
  const dispose = () => {
    for (const { shares } of kept.values()) forwardKernels().release(shares)
    kept.clear()
  }

  try {
    let bytes = 0
    for (const part of parts) {
      bytes += 4 * part.count * vocabSize
      if (bytes > keptBytes) break
      await withLogits(part, async (logits) => {
        kept.set(part, await predict(part, logits))
      })
    }
  } catch (error) {
    dispose()
    throw error
  }
  return {
    dispose,
    async of(changed) {
      for (const { length } of changed) {
        if (length !== full.length) {
          throw new ShapeError(`hidden states of ${full.length} and ${length} values; expected as many`)
        }
      }
      const { release, weigh } = forwardKernels()
      const divergences = changed.map(() => 0)
      for (const part of parts) {
        await withLogits(part, async (logits) => {
          const { shares, sums } = kept.get(part) ?? (await predict(part, logits))
          try {
            for (const [i, hidden] of changed.entries()) {
              const logs = await logSumsOf(part, hidden, logits)
              const weighed = weigh(part.count, vocabSize, shares, logits)
              for (const [row, sum] of sums.entries()) divergences[i] += sum + logs[row] - weighed[row]
            }
          } finally {
            if (!kept.has(part)) release(shares)
          }
        })
      }
      const positions = full.length / head.hiddenSize
      // of no change, rounding may leave a little less than nothing
      return divergences.map((sum) => Math.max(0, sum / positions))
    },
  }
}
