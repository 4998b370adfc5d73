/** A text to be cut into runs of one length. */
export interface CutText {
  /** The text, without a first token that it begins with already. */
  readonly text: Int32Array
  /** Tokens of the text in each run. */
  readonly step: number
  /** The run from a place of the text on: a view, or behind a first token a new array. */
  runAt(start: number): Int32Array
}

/** How a text is cut into runs of `length` tokens, each of which begins with the first token, if there is one. */
export function cutText(tokens: Int32Array, length: number, firstToken: number | undefined): CutText {
  if (firstToken === undefined) {
    return { text: tokens, step: length, runAt: (start) => tokens.subarray(start, start + length) }
  }
  const text = tokens[0] === firstToken ? tokens.subarray(1) : tokens
  const step = length - 1
  const runAt = (start: number) => {
    const run = new Int32Array(length).fill(firstToken, 0, 1)
    run.set(text.subarray(start, start + step), 1)
    return run
  }
  return { text, step, runAt }
}
