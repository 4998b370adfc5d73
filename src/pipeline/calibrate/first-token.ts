/** What a text has behind a first token that it begins with already. */
export function textWithout(firstToken: number | undefined, tokens: Int32Array): Int32Array {
  return firstToken !== undefined && tokens[0] === firstToken ? tokens.subarray(1) : tokens
}

/** A part of a text behind the token that it is to begin with; the part itself where there is none. */
export function beginningWith(firstToken: number | undefined, part: Int32Array): Int32Array {
  if (firstToken === undefined) return part
  const whole = new Int32Array(1 + part.length).fill(firstToken, 0, 1)
  whole.set(part, 1)
  return whole
}
