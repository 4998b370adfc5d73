import type { FinishReason, GeneratedToken } from '../../generate/answer.js'
import { formatCount, formatSeconds } from './format.js'

/** How fast text was written, over one answer or several. */
export interface WritingSpeed {
  tokens: number
  /** From the first token of an answer to its last. */
  seconds: number
  /** To the first tokens, the prompts' own time. */
  promptSeconds: number
  finishReason: FinishReason | undefined
}

/** Nothing written yet. */
export function noSpeed(): WritingSpeed {
  return { tokens: 0, seconds: 0, promptSeconds: 0, finishReason: undefined }
}

/** Hands the text of tokens to `write` as they come, and counts them. */
export async function writeText(
  items: AsyncIterable<GeneratedToken>,
  speed: WritingSpeed,
  write: (text: string) => void,
): Promise<void> {
  const begun = performance.now()
  let first: number | undefined
  try {
    for await (const { text, finishReason } of items) {
      first ??= performance.now()
      speed.tokens++
      speed.finishReason = finishReason
      if (text !== '') write(text)
    }
  } finally {
    const now = performance.now()
    speed.promptSeconds += ((first ?? now) - begun) / 1000
    speed.seconds += (now - (first ?? now)) / 1000
  }
}

/** `12 tokens, the first after 0.3 s, then 21.3 tokens a second`. */
export function describeSpeed({ tokens, seconds, promptSeconds }: WritingSpeed): string {
  const rate =
    seconds > 0 && tokens > 1 ? `, then ${((tokens - 1) / seconds).toFixed(1)} tokens a second` : ''
  return `${formatCount(tokens, 'token')}, the first after ${formatSeconds(promptSeconds)}${rate}`
}
