import type { Random } from '../../common/random.js'
import { forwardKernels } from '../../kernels/forward-kernels.js'

/**
 * Draws a token with probability proportional to `exp(logit / temperature)`, in plain loops: what {@link drawTokens} is
 * held to.
 */
export function drawToken(logits: Float32Array, temperature: number, random: Random): number {
  const largest = logits.reduce((most, logit) => Math.max(most, logit), Number.NEGATIVE_INFINITY)
  const share = (token: number) => Math.exp((logits[token] - largest) / temperature)
  let rest = random() * logits.reduce((sum, _, token) => sum + share(token), 0)
  let token = 0
  while (token < logits.length - 1 && rest >= share(token)) rest -= share(token++)
  return token
}

/**
 * Draws a token from each row of logits. The kernels sum runs of the vocabulary; then only the run that the token lies in
 * is looked at one by one.
 *
 * @param logits rows x vocabSize, finite, in the kernels' memory; divided by the temperature in place
 * @param randoms one per row
 */
export function drawTokens(
  logits: Float32Array,
  vocabSize: number,
  temperature: number,
  randoms: readonly Random[],
): Int32Array {
  if (temperature < COLD) coolDown(logits, vocabSize, temperature)
  else if (temperature !== 1) for (let i = 0; i < logits.length; i++) logits[i] /= temperature
  const size = divisorNearRoot(vocabSize)
  const runs = vocabSize / size
  const { sums, tops } = forwardKernels().predict(randoms.length * runs, size, logits)
  return Int32Array.from(randoms, (random, row) => {
    const first = row * runs
    const peakOf = (run: number) => logits[(first + run) * size + tops[first + run]]
    let largest = Number.NEGATIVE_INFINITY
    for (let run = 0; run < runs; run++) largest = Math.max(largest, peakOf(run))
    const shareOf = (run: number) => sums[first + run] * Math.exp(peakOf(run) - largest)
    let total = 0
    for (let run = 0; run < runs; run++) total += shareOf(run)
    let rest = random() * total
    let run = 0
    while (run < runs - 1 && rest >= shareOf(run)) rest -= shareOf(run++)
    const end = (run + 1) * size - 1
    const at = row * vocabSize
    let token = run * size
    for (; token < end; token++) {
      const share = Math.exp(logits[at + token] - largest)
      if (rest < share) break
      rest -= share
    }
    return token
  })
}

/** Temperatures below it can take a logit beyond float32. */
const COLD = 2 ** -64
/** Far enough below the largest for a share of nothing. */
const NOTHING = -1e30

/** Divides by a temperature next to nothing what each logit is below the largest of its row. */
function coolDown(logits: Float32Array, vocabSize: number, temperature: number): void {
  for (let at = 0; at < logits.length; at += vocabSize) {
    const row = logits.subarray(at, at + vocabSize)
    const largest = row.reduce((most, logit) => Math.max(most, logit), Number.NEGATIVE_INFINITY)
    for (let i = 0; i < vocabSize; i++) row[i] = Math.max(NOTHING, (row[i] - largest) / temperature)
  }
}

/** The divisor nearest to the square root, 1 for a prime. */
function divisorNearRoot(count: number): number {
  let divisor = Math.floor(Math.sqrt(count))
  while (count % divisor !== 0) divisor--
  return divisor
}
