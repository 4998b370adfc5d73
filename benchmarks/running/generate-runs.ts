import { closeCaches, type Decoder, decodeSteps, openCaches } from '../../src/model/passes/cached-decoder.js'

/** How long a prompt took, and each token behind it. */
export interface Written {
  readonly promptSeconds: number
  readonly tokenSeconds: number
  /** Seconds of processors for each, all threads of the process together: what else the machine does is not in it. */
  readonly tokenBusy: number
}

/** Starts to count seconds, and those of processors; call what it returns to read them. */
export function startWatch(): () => { seconds: number; busy: number } {
  const start = performance.now()
  const before = process.cpuUsage()
  return () => {
    const seconds = (performance.now() - start) / 1e3
    const { user, system } = process.cpuUsage(before)
    return { seconds, busy: (user + system) / 1e6 }
  }
}

/** Runs a prompt, then one token after the other. */
export async function writeTokens(decoder: Decoder, prompt: number[], count: number): Promise<Written> {
  const span = prompt.length + count
  const caches = openCaches(decoder, 1, span)
  const next = (tokens: readonly number[]) =>
    decodeSteps(decoder, [{ caches, tokens: Int32Array.from(tokens), span, predicts: true }])
  try {
    const watch = startWatch()
    let logits = await next(prompt)
    const { seconds: promptSeconds } = watch()
    const start = startWatch()
    for (let i = 0; i < count; i++) logits = await next([argmax(logits)])
    const { seconds, busy } = start()
    return { promptSeconds, tokenSeconds: seconds / count, tokenBusy: busy / count }
  } finally {
    closeCaches(caches)
  }
}

function argmax(values: Float32Array): number {
  let best = 0
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i
  return best
}
