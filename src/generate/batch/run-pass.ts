import { forwardKernels } from '../../kernels/forward-kernels.js'
import { type Decoder, decodeSteps } from '../../model/passes/cached-decoder.js'
import { chooseToken } from '../choose-token.js'
import type { Roster, Sequence, Share } from './sequence.js'

/**
 * Runs a pass, and chooses a token for each sequence whose prompt is complete. An error in the pass ends all that take
 * part in it.
 */
export async function runPass(decoder: Decoder, shares: readonly Share[], roster: Roster): Promise<void> {
  const { vocabSize } = decoder.config
  const predicting = shares.filter(({ predicts }) => predicts)
  const { allocate, release } = forwardKernels()
  const logits = allocate(Math.max(1, predicting.length) * vocabSize)
  try {
    const steps = shares.map(({ cache, ...share }) => ({ ...share, caches: cache.caches }))
    await decodeSteps(decoder, steps, logits.subarray(0, predicting.length * vocabSize))
    for (const { cache, tokens } of shares) cache.tokens.push(...tokens)
    for (const [i, { sequence }] of predicting.entries()) {
      if (!sequence.ended) choose(sequence, logits.subarray(i * vocabSize, (i + 1) * vocabSize), roster)
    }
  } catch (error) {
    // what the caches hold is not known any more
    for (const { sequence } of shares) roster.end(sequence, false, error)
  } finally {
    release(logits)
  }
}

function choose(sequence: Sequence, logits: Float32Array, roster: Roster): void {
  const { task, seen } = sequence
  try {
    const choice = chooseToken(logits, task.sampling, seen, task.random)
    task.tokens.push(choice.token)
    seen.add(choice.token)
    if (task.onToken(choice)) roster.end(sequence, true)
  } catch (error) {
    roster.end(sequence, true, error)
  }
}
