/**
 * Writes with the embedded model: several answers at once, token by token.
 *
 *     npx tsx examples/generate.ts
 */
import { openGenerator } from 'gptvq/generate'

const generator = await openGenerator({ model: 'examples/models/tiny-llama' })

let text = ''
for await (const token of generator.generate({ prompt: 'The king', temperature: 0, maxTokens: 24 })) {
  text += token.text
  if (token.finishReason) console.log(`likeliest: ${JSON.stringify(text)} (${token.finishReason})`)
}

const write = async (seed: number) => {
  let answer = ''
  let logprob = 0
  for await (const token of generator.generate({ prompt: 'The king', topP: 0.9, maxTokens: 24, seed })) {
    answer += token.text
    logprob += token.logprob
  }
  return `seed ${seed}: ${JSON.stringify(answer)}, log-probability ${logprob.toFixed(1)}`
}
for (const line of await Promise.all([1, 2, 3].map(write))) console.log(line) // computed together

await generator.close()
