import { closeCaches, type Decoder, decodeSteps, openCaches } from '../src/model/passes/cached-decoder.js'

/** How long a prompt took, and each token behind it. */
export interface Written {
  readonly promptSeconds: number
  readonly tokenSeconds: number
}

/** Runs a prompt, then one token after the other. */
export async function writeTokens(decoder: Decoder, prompt: number[], count: number): Promise<Written> {
  const span = prompt.length + count
  const caches = openCaches(decoder, 1, span)
  const next = (tokens: readonly number[]) =>
    decodeSteps(decoder, [{ caches, tokens: Int32Array.from(tokens), span, predicts: true }])
  try {
    const start = performance.now()
    let logits = await next(prompt)
    const begun = performance.now()
    for (let i = 0; i < count; i++) logits = await next([argmax(logits)])
    const end = performance.now()
    return { promptSeconds: (begun - start) / 1e3, tokenSeconds: (end - begun) / 1e3 / count }
  } finally {
    closeCaches(caches)
  }
}

function argmax(values: Float32Array): number {
  let best = 0
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i
  return best
}
