import { randomGenerator } from '../../src/common/random.js'
import type { Scheduler } from '../../src/generate/batch/scheduler.js'
import type { Choice, Sampling } from '../../src/generate/choose-token.js'
import type { DecoderDescription } from '../../src/model/decoder/description.js'
import type { WeightSource } from '../../src/model/decoder/weights.js'
import { forwardLogits } from '../../src/model/passes/forward-logits.js'

export const greedy: Sampling = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  topLogprobs: 0,
}

/** What is chosen after some tokens, `count` of them. */
export function choicesAfter(
  scheduler: Scheduler,
  prompt: readonly number[],
  count: number,
  { sampling = greedy, seed = 0 }: { sampling?: Sampling; seed?: number } = {},
): Promise<Choice[]> {
  return new Promise((resolve, reject) => {
    const choices: Choice[] = []
    scheduler.submit({
      tokens: [...prompt],
      most: prompt.length + count,
      sampling,
      random: randomGenerator(seed),
      onToken: (choice) => choices.push(choice) === count,
      onEnd: (error) => (error === undefined ? resolve(choices) : reject(error)),
    })
  })
}

/** The same for the likeliest tokens, by whole forward passes that know no cache. */
export async function likeliestAfter(
  source: WeightSource,
  config: DecoderDescription,
  prompt: readonly number[],
  count: number,
): Promise<number[]> {
  const tokens = [...prompt]
  for (let i = 0; i < count; i++) {
    const logits = await forwardLogits(source, config, Int32Array.from(tokens), 1)
    const last = logits.subarray((tokens.length - 1) * config.vocabSize)
    tokens.push(last.indexOf(last.reduce((most, logit) => Math.max(most, logit))))
  }
  return tokens.slice(prompt.length)
}
